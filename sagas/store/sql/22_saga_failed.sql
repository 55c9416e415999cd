-- The failure that turns a saga round, where there is nothing to decide: the live attempt of the current step of a saga that
-- goes on has failed for good, left nothing behind, and there is something to undo. What the rules write (saga_settle_forward,
-- saga_go_back, saga_undo_next), without asking them; a test has both do the same sagas, and compares the rows.
-- Answers null, with nothing written, where the rules must be asked; otherwise as saga_commit.
CREATE OR REPLACE FUNCTION saga_failed(p_saga uuid, p_step text, p_attempt uuid, p_error jsonb, p_retry_in double precision)
RETURNS jsonb
LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    v_now timestamptz := saga_now();
    v_soon timestamptz := v_now + interval '2 s';
    v_error jsonb := p_error || jsonb_build_object('step', p_step);
    v_at integer;
    v_correlation text;
    v_actor text;
    v_first integer;
    v_hard boolean;
    v_attempt integer;
    v_event bigint;
BEGIN
    SELECT current_step, correlation_id, actor INTO v_at, v_correlation, v_actor FROM saga_instances
    WHERE saga_id = p_saga AND state = 'IN_PROGRESS' AND paused_at IS NULL AND cancel_requested IS NULL
        AND NOT pivot_open AND NOT pivot_passed AND (quiet_at IS NULL OR quiet_at <= v_now)
    FOR UPDATE;
    IF NOT FOUND THEN RETURN NULL; END IF;
    -- An effect of a pivot is no way back; a child is undone without a message.
    SELECT max(undo_rank), bool_or(pivot AND effect_possible OR child IS NOT NULL AND undo_rank IS NOT NULL)
    INTO v_first, v_hard FROM saga_steps WHERE saga_id = p_saga;
    IF v_first IS NULL OR v_hard THEN RETURN NULL; END IF;
    UPDATE saga_steps SET state = 'FAILED', error = p_error, lease_until = NULL, completed_at = NULL, waiting_since = NULL,
        not_before = NULL, published_at = NULL, look_at = NULL
    WHERE saga_id = p_saga AND step_order = v_at AND step_name = p_step AND attempt_id = p_attempt
        AND lease_until IS NOT NULL AND phase = 'forward' AND (p_retry_in IS NULL OR attempt >= max_attempts)
        AND NOT compensate_on_failure AND NOT effect_possible AND undo_rank IS NULL
    RETURNING attempt INTO v_attempt;
    IF NOT FOUND THEN RETURN NULL; END IF;
    -- The first undo is opened; what else waited for something on its way forward does not hold up its own.
    UPDATE saga_steps SET look_at = CASE undo_rank WHEN v_first THEN v_soon END, not_before = NULL,
        published_at = CASE undo_rank WHEN v_first THEN NULL ELSE published_at END
    WHERE saga_id = p_saga AND (undo_rank = v_first OR look_at IS NOT NULL OR not_before IS NOT NULL);
    UPDATE saga_instances SET state = 'COMPENSATING', error = v_error, end_as = 'COMPENSATED', live_claims = 0,
        wake_at = v_soon
    WHERE saga_id = p_saga;
    v_event := saga_append('saga:' || p_saga, 'StepFailed', jsonb_strip_nulls(jsonb_build_object('attempt', v_attempt,
        'error', p_error)), p_saga, v_correlation, p_step, v_actor);
    v_event := saga_append('saga:' || p_saga, 'SagaCompensating', jsonb_strip_nulls(jsonb_build_object('end_as',
        'COMPENSATED', 'error', v_error)), p_saga, v_correlation, NULL, v_actor);
    RETURN jsonb_build_object('verdict', 'committed', 'next', 'undo', 'route', saga_route(p_saga, true, 0), 'touched', NULL);
END $$;
