-- The outcome of nearly every attempt: it is done. Where there is nothing to decide (a live attempt of the current step of a
-- saga that goes on) the step is completed here, and its successor claimed (p_steps: if it is one of those), or left to a
-- message, or the saga is at its end: what the rules write (saga_complete_step), without asking them. A test has both
-- do the same sagas, and compares the rows. Everything else is saga_commit's, whose parameters and answer these are.
CREATE OR REPLACE FUNCTION saga_done(
    p_saga uuid, p_step text, p_attempt uuid, p_output jsonb, p_ride boolean, p_margin double precision,
    p_steps text[] DEFAULT NULL, p_next uuid DEFAULT NULL, p_events jsonb DEFAULT '[]'
) RETURNS jsonb
LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    v_now timestamptz := saga_now();
    v_stream text := 'saga:' || p_saga;
    v_at integer;
    v_stages integer;
    v_done integer;
    v_correlation text;
    v_actor text;
    v_parent uuid;
    v_attempt integer;
    v_node text;
    v_incarnation uuid;
    v_host text;
    v_pid integer;
    v_started double precision;
    v_claim jsonb;
    v_event bigint;
BEGIN
    SELECT current_step, stages, completions, correlation_id, actor, parent_saga_id
    INTO v_at, v_stages, v_done, v_correlation, v_actor, v_parent
    FROM saga_instances
    WHERE saga_id = p_saga AND state = 'IN_PROGRESS' AND paused_at IS NULL AND cancel_requested IS NULL
        AND (quiet_at IS NULL OR quiet_at <= v_now)
    FOR UPDATE;
    UPDATE saga_steps SET state = 'COMPLETED', output_data = p_output, error = NULL, completed_at = v_now,
        lease_until = NULL, waiting_since = NULL, undo_rank = CASE WHEN has_compensation THEN v_done + 1 END
    WHERE saga_id = p_saga AND step_order = v_at AND step_name = p_step AND attempt_id = p_attempt
        AND lease_until IS NOT NULL AND phase = 'forward'
    RETURNING attempt, claimed_by, claim_node, claim_host, claim_pid, claim_started
    INTO v_attempt, v_node, v_incarnation, v_host, v_pid, v_started;
    IF NOT FOUND THEN
        RETURN saga_commit(p_saga, p_step, p_attempt, 'done', p_output, NULL, p_events, NULL, p_ride, p_steps, p_next,
            p_margin);
    END IF;
    IF p_events <> '[]' THEN
        PERFORM saga_append(v_stream, e ->> 0, jsonb_strip_nulls(e -> 1), p_saga, v_correlation, p_step, v_actor)
        FROM jsonb_array_elements(p_events) e;
    END IF;
    v_event := saga_append(v_stream, 'StepCompleted', jsonb_build_object('attempt', v_attempt), p_saga, v_correlation, p_step,
        v_actor);
    v_at := v_at + 1;
    IF v_at >= v_stages THEN
        UPDATE saga_instances SET state = 'COMPLETED', current_step = v_at, completions = v_done + 1, live_claims = 0,
            pivot_passed = pivot_passed OR pivot_open, pivot_open = false, wake_at = NULL, completed_at = v_now
        WHERE saga_id = p_saga;
        v_event := saga_append(v_stream, 'SagaCompleted', '{}', p_saga, v_correlation, NULL, v_actor);
        IF v_parent IS NOT NULL THEN PERFORM saga_tell_parent(v_parent, p_saga); END IF;
        RETURN jsonb_build_object('verdict', 'committed', 'next', 'end', 'touched', v_parent);
    END IF;
    IF p_steps IS NOT NULL THEN
        v_claim := saga_claim_forward(p_saga, v_at, p_steps, true, p_next, v_node, v_host, v_pid, v_started, p_margin,
            v_incarnation);
        IF v_claim IS NOT NULL THEN
            RETURN jsonb_build_object('verdict', 'committed', 'next', 'continue', 'then', v_claim);
        END IF;
    END IF;
    UPDATE saga_instances SET current_step = v_at, completions = v_done + 1, live_claims = 0,
        pivot_passed = pivot_passed OR pivot_open, pivot_open = false,
        wake_at = least(wake_at, deadline, v_now + interval '2 s')
    WHERE saga_id = p_saga;
    UPDATE saga_steps SET published_at = v_now, look_at = v_now + interval '2 s' WHERE saga_id = p_saga AND step_order = v_at;
    RETURN saga_answer(p_saga, 'continue', p_ride, false, v_at - 1, v_parent);
END $$;
