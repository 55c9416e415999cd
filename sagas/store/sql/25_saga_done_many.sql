-- saga_done of one step of each of several sagas, which one process runs side by side (decision 0015): one commit for all.
-- p_outputs, p_events: JSON as text, null for none. p_thens: the step that may be claimed with it as p_nexts, or null.
-- Answers a list as long as p_sagas: what saga_done answers.
CREATE OR REPLACE FUNCTION saga_done_many(
    p_sagas uuid[], p_steps text[], p_attempts uuid[], p_outputs text[], p_events text[], p_thens text[], p_nexts uuid[],
    p_margin double precision
) RETURNS jsonb
LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    v_sync text := current_setting('synchronous_commit');
    v_setting text;
    v_answers jsonb := '[]';
BEGIN
    FOR i IN 1 .. cardinality(p_sagas) LOOP
        v_answers := v_answers || jsonb_build_array(saga_done(p_sagas[i], p_steps[i], p_attempts[i], p_outputs[i]::jsonb, false,
            p_margin, CASE WHEN p_thens[i] IS NOT NULL THEN ARRAY[p_thens[i]] END, p_nexts[i],
            coalesce(p_events[i], '[]')::jsonb));
    END LOOP;
    -- A claim that was granted again need not wait for the disk, and says so; what is done must.
    v_setting := set_config('synchronous_commit', v_sync, true);
    RETURN v_answers;
END $$;
