-- What verify answered about an unknown outcome (R14): not_done, or it raised or was lost and is asked again.
CREATE OR REPLACE FUNCTION saga_settle_verify(
    s saga_instances, t saga_steps, p_outcome text, p_error jsonb, p_retry_in double precision
) RETURNS text
LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    v_due timestamptz := saga_now() + make_interval(secs => coalesce(p_retry_in, 0));
    v_not_done boolean := p_outcome = 'not_done';
    v_again boolean := s.state = 'IN_PROGRESS'
        AND CASE WHEN v_not_done THEN t.attempt ELSE t.verify_attempt END < t.max_attempts;
    v_soon boolean := coalesce(p_retry_in, 0) <= 2;
BEGIN
    UPDATE saga_steps SET
        state = CASE WHEN NOT v_not_done THEN 'UNKNOWN' WHEN v_again THEN 'PENDING' ELSE 'FAILED' END,
        phase = CASE WHEN v_not_done THEN 'forward' ELSE 'verify' END,
        effect_possible = NOT v_not_done, undo_rank = CASE WHEN v_not_done THEN NULL ELSE undo_rank END,
        verify_attempt = CASE WHEN v_not_done THEN 0 ELSE verify_attempt END,
        error = coalesce(p_error, error), lease_until = NULL,
        not_before = CASE WHEN v_again THEN v_due END,
        published_at = CASE WHEN v_again AND v_soon THEN saga_now() END,
        look_at = CASE WHEN v_again THEN v_due + CASE WHEN v_soon THEN interval '2 s' ELSE interval '0' END END
    WHERE step_id = t.step_id;
    UPDATE saga_instances SET live_claims = live_claims - 1, pivot_open = pivot_open AND NOT (t.pivot AND v_not_done)
    WHERE saga_id = s.saga_id;
    PERFORM saga_note(s, 'StepVerified', t.step_name, jsonb_build_object(
        'answer', CASE WHEN v_not_done THEN 'not done' ELSE 'still unknown' END, 'error', p_error));
    IF s.state = 'COMPENSATING' THEN
        RETURN saga_undo_next(s.saga_id, false);
    ELSIF s.cancel_requested IS NOT NULL AND t.pivot AND v_not_done THEN
        RETURN saga_go_back(s.saga_id, 'CANCELLED', s.cancel_requested);
    ELSIF v_again THEN
        PERFORM saga_rewake(s.saga_id);
        RETURN CASE WHEN v_soon THEN 'again' ELSE 'wait' END;
    END IF;
    RETURN saga_go_back(s.saga_id, 'COMPENSATED', coalesce(p_error, t.error) || jsonb_build_object('step', t.step_name));
END $$;
