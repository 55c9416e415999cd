-- One step of each of several sagas that one process runs side by side (decision 0015), in one transaction: done, with its
-- output and events (JSON as text, null for no events), or, where p_outputs is null, claimed and not begun.
-- p_thens: the step that may be claimed with it, as p_nexts, to wait for its turn; or null.
-- Answers a list as long as p_sagas: what saga_commit answers, or null for a saga whose row another process holds just now:
-- who holds many rows waits for none (R21).
CREATE OR REPLACE FUNCTION saga_commit_many(
    p_sagas uuid[], p_steps text[], p_attempts uuid[], p_outputs text[], p_events text[], p_thens text[], p_nexts uuid[],
    p_margin double precision
) RETURNS jsonb
LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    v_sync text := current_setting('synchronous_commit');
    v_setting text;
    v_then text[];
    v_answer jsonb;
    v_answers jsonb := '[]';
BEGIN
    FOR i IN 1 .. cardinality(p_sagas) LOOP
        v_answer := NULL;
        PERFORM FROM saga_instances WHERE saga_id = p_sagas[i] FOR UPDATE SKIP LOCKED;
        IF FOUND AND p_outputs[i] IS NULL THEN
            v_answer := saga_commit(p_sagas[i], p_steps[i], p_attempts[i], 'unbegun', NULL, NULL, '[]', NULL, false);
        ELSIF FOUND THEN
            -- Who waits may be lost unbegun: an attempt is left then. (Claimed already: the reply to this was lost.)
            SELECT ARRAY[step_name] INTO v_then FROM saga_steps
            WHERE saga_id = p_sagas[i] AND step_name = p_thens[i]
                AND (attempt + 1 < max_attempts OR attempt_id = p_nexts[i]);
            v_answer := saga_done(p_sagas[i], p_steps[i], p_attempts[i], p_outputs[i]::jsonb, false, p_margin, v_then,
                p_nexts[i], coalesce(p_events[i], '[]')::jsonb);
        END IF;
        v_answers := v_answers || jsonb_build_array(v_answer);
    END LOOP;
    -- A claim that was granted again need not wait for the disk, and says so; what is done must.
    v_setting := set_config('synchronous_commit', v_sync, true);
    RETURN v_answers;
END $$;
