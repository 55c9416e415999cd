-- saga_commit, and the claim of what comes next if it goes the same way and is one of p_steps: one round trip, one commit.
-- p_next is the id of that attempt; asked again, the same one is granted again (R5). Answers what saga_commit does, and
-- "then": {"step", "claim": as saga_claim says it}, if that was granted.
CREATE OR REPLACE FUNCTION saga_commit_and_claim(
    p_saga uuid, p_step text, p_attempt uuid, p_outcome text, p_output jsonb, p_error jsonb, p_events jsonb,
    p_retry_in double precision, p_ride boolean, p_undo boolean, p_steps text[], p_next uuid, p_node text, p_host text,
    p_pid integer, p_started double precision, p_margin double precision, p_incarnation uuid
) RETURNS jsonb
LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    v_answer jsonb := saga_commit(p_saga, p_step, p_attempt, p_outcome, p_output, p_error, p_events, p_retry_in, p_ride);
    v_sync text := current_setting('synchronous_commit');
    v_step text;
    v_claim jsonb;
BEGIN
    IF v_answer ->> 'verdict' NOT IN ('committed', 'recorded')
            OR v_answer ->> 'next' <> (CASE WHEN p_undo THEN 'undo' ELSE 'continue' END) THEN
        RETURN v_answer;
    END IF;
    IF p_undo THEN
        v_step := (saga_next_undo(p_saga)).step_name;
    ELSE
        SELECT t.step_name INTO v_step FROM saga_instances s
        JOIN saga_steps t ON t.saga_id = s.saga_id AND t.step_order = s.current_step WHERE s.saga_id = p_saga;
    END IF;
    IF v_step = ANY (p_steps) THEN
        v_claim := saga_claim(p_saga, v_step, p_undo, p_next, p_node, p_host, p_pid, p_started, p_margin, p_incarnation);
        -- A claim alone need not wait for the disk; the outcome that it is committed with must.
        PERFORM set_config('synchronous_commit', v_sync, true);
        IF v_claim ->> 'verdict' = 'granted' THEN
            RETURN v_answer || jsonb_build_object('then', jsonb_build_object('step', v_step, 'claim', v_claim));
        END IF;
    END IF;
    RETURN v_answer;
END $$;
