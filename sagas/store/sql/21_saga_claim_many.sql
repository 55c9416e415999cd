-- saga_claim of the same step of several sagas of one version, by one process that runs them side by side (decision 0015).
-- Answers a list as long as p_sagas: what saga_claim answers, or null for a saga of another version, for the last attempt of
-- its step (who waits may be lost unbegun), or whose row another process holds just now: who holds many rows waits for none.
CREATE OR REPLACE FUNCTION saga_claim_many(
    p_sagas uuid[], p_version integer, p_step text, p_attempts uuid[], p_node text, p_host text, p_pid integer,
    p_started double precision, p_margin double precision, p_incarnation uuid
) RETURNS jsonb
LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    v_answers jsonb := '[]';
    v_claim jsonb;
BEGIN
    FOR i IN 1 .. cardinality(p_sagas) LOOP
        v_claim := NULL;
        PERFORM FROM saga_instances WHERE saga_id = p_sagas[i] AND version = p_version FOR UPDATE SKIP LOCKED;
        IF FOUND AND EXISTS (SELECT FROM saga_steps WHERE saga_id = p_sagas[i] AND step_name = p_step
                AND (attempt + 1 < max_attempts OR attempt_id = p_attempts[i])) THEN
            v_claim := saga_claim(p_sagas[i], p_step, false, p_attempts[i], p_node, p_host, p_pid, p_started, p_margin,
                p_incarnation);
        END IF;
        v_answers := v_answers || jsonb_build_array(v_claim);
    END LOOP;
    RETURN v_answers;
END $$;
