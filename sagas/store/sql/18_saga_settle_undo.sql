-- How an undo ended (P6, R18): done, not_ready, or failed or lost and run again until its attempts run out.
CREATE OR REPLACE FUNCTION saga_settle_undo(
    s saga_instances, t saga_steps, p_outcome text, p_error jsonb, p_retry_in double precision
) RETURNS text
LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    v_now timestamptz := saga_now();
    v_due timestamptz := v_now + make_interval(secs => coalesce(p_retry_in, 0));
    v_wait boolean := p_outcome = 'not_ready'
        AND v_due <= coalesce(t.waiting_since, v_now) + make_interval(secs => t.undo_timeout_s);
    v_again boolean := v_wait OR (p_outcome IN ('failed', 'unknown', 'not_ready') AND t.undo_attempt < t.undo_max_attempts
        AND (p_retry_in IS NOT NULL OR p_outcome = 'unknown'));
    v_soon boolean := coalesce(p_retry_in, 0) <= 2;
BEGIN
    IF p_outcome = 'done' THEN
        -- An effect that came late, while this undo ran, is undone once more (R19).
        UPDATE saga_steps SET state = CASE WHEN late_effect THEN 'COMPENSATING' ELSE 'COMPENSATED' END,
            lease_until = NULL, waiting_since = NULL, effect_possible = late_effect, late_effect = false, error = NULL,
            undo_attempt = CASE WHEN late_effect THEN 0 ELSE undo_attempt END,
            undo_rank = CASE WHEN late_effect THEN undo_rank END
        WHERE step_id = t.step_id;
        UPDATE saga_instances SET live_claims = live_claims - 1 WHERE saga_id = s.saga_id;
        PERFORM saga_note(s, 'StepCompensated', t.step_name, jsonb_build_object('attempt', t.undo_attempt));
        RETURN saga_undo_next(s.saga_id, true);
    END IF;
    UPDATE saga_instances SET live_claims = live_claims - 1 WHERE saga_id = s.saga_id;
    UPDATE saga_steps SET state = CASE WHEN v_again THEN 'COMPENSATING' ELSE 'FAILED' END,
        lease_until = NULL, error = p_error, undo_attempt = undo_attempt - v_wait::integer,
        waiting_since = CASE WHEN v_wait THEN coalesce(waiting_since, v_now) END,
        not_before = CASE WHEN v_again THEN v_due END,
        published_at = CASE WHEN v_again AND v_soon THEN v_now END,
        look_at = CASE WHEN v_again THEN v_due + CASE WHEN v_soon THEN interval '2 s' ELSE interval '0' END END
    WHERE step_id = t.step_id;
    PERFORM saga_note(s, CASE WHEN v_wait THEN 'CompensationNotReady' WHEN v_again THEN 'CompensationRetryScheduled'
        ELSE 'CompensationFailed' END, t.step_name, jsonb_build_object('attempt', t.undo_attempt, 'error', p_error));
    IF v_again THEN
        PERFORM saga_rewake(s.saga_id);
        RETURN CASE WHEN v_soon THEN 'again' ELSE 'wait' END;
    END IF;
    RETURN saga_fail(s.saga_id, 'undo', p_error || jsonb_build_object('step', t.step_name));
END $$;
