-- An attempt of a step ended without success (R1, R2, R16). p_retry_in null: do not try again.
-- Outcomes: failed (we know), unknown (lost, or stopped by a time limit), not_ready, cancel, bad_output (it acted, but
-- what it returned cannot be stored), refused (its code was not even called: the payload does not fit), unbegun (nor was
-- it here, and nothing has happened: its process gives the claim back).
CREATE OR REPLACE FUNCTION saga_settle_forward(
    s saga_instances, t saga_steps, p_outcome text, p_error jsonb, p_retry_in double precision
) RETURNS text
LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    v_now timestamptz := saga_now();
    v_due timestamptz := v_now + make_interval(secs => coalesce(p_retry_in, 0));
    v_wait boolean := p_outcome = 'not_ready'
        AND v_due <= coalesce(t.waiting_since, v_now) + make_interval(secs => t.timeout_s);
    v_unbegun boolean := p_outcome = 'unbegun';
    -- A transactional attempt that did not commit was rolled back, and a child starts by the commit: nothing is left.
    v_lost boolean := p_outcome = 'unknown' AND NOT t.transactional AND t.child IS NULL;
    v_effect boolean := t.effect_possible OR v_lost OR p_outcome = 'bad_output'
        OR (t.compensate_on_failure AND p_outcome NOT IN ('refused', 'unbegun'));
    v_unknown boolean := v_lost AND (NOT t.idempotent OR t.attempt >= t.max_attempts);
    v_retry boolean := v_wait OR v_unbegun OR (p_outcome IN ('failed', 'unknown') AND NOT v_unknown
        AND (p_retry_in IS NOT NULL OR p_outcome = 'unknown') AND t.attempt < t.max_attempts);
    v_soon boolean := coalesce(p_retry_in, 0) <= 2;
    v_back boolean := s.state = 'COMPENSATING';
    v_verify boolean := v_unknown AND t.has_verify AND NOT t.idempotent AND NOT v_back;
BEGIN
    UPDATE saga_steps SET
        state = CASE WHEN v_unknown THEN 'UNKNOWN' WHEN v_retry THEN 'PENDING' ELSE 'FAILED' END,
        attempt = attempt - (v_wait OR v_unbegun)::integer, error = CASE WHEN v_unbegun THEN error ELSE p_error END,
        lease_until = NULL, completed_at = NULL,
        waiting_since = CASE WHEN v_wait THEN coalesce(waiting_since, v_now) WHEN v_unbegun THEN waiting_since END,
        effect_possible = v_effect,
        undo_rank = CASE WHEN v_effect AND has_compensation THEN 1000000 + step_order END,
        not_before = CASE WHEN (v_retry OR v_verify) AND NOT v_back THEN v_due END,
        -- A short pause rides as a countdown, a long one is a row that reconcile wakes.
        published_at = CASE WHEN v_retry AND v_soon THEN v_now END,
        look_at = CASE WHEN v_back OR NOT (v_retry OR v_verify) THEN NULL WHEN v_soon THEN v_due + interval '2 s'
            ELSE v_due END
    WHERE step_id = t.step_id;
    UPDATE saga_instances SET live_claims = live_claims - 1, pivot_open = pivot_open AND NOT (t.pivot AND NOT v_effect)
    WHERE saga_id = s.saga_id;
    PERFORM saga_note(s, CASE WHEN v_unbegun THEN 'StepGivenBack' WHEN v_wait THEN 'StepNotReady'
        WHEN v_unknown THEN 'StepUnknown' WHEN v_retry THEN 'StepRetryScheduled' ELSE 'StepFailed' END, t.step_name,
        jsonb_build_object('attempt', t.attempt, 'error', p_error, 'retry_in', CASE WHEN v_retry THEN p_retry_in END));
    IF v_back THEN
        RETURN saga_undo_next(s.saga_id, false);
    ELSIF s.cancel_requested IS NOT NULL AND t.pivot AND NOT v_effect THEN
        RETURN saga_go_back(s.saga_id, 'CANCELLED', s.cancel_requested);
    ELSIF v_retry OR v_verify THEN
        PERFORM saga_rewake(s.saga_id);
        RETURN CASE WHEN v_soon THEN 'again' ELSE 'wait' END;
    END IF;
    RETURN saga_go_back(s.saga_id, CASE WHEN p_outcome IN ('cancel', 'refused') THEN 'CANCELLED' ELSE 'COMPENSATED' END,
        p_error || jsonb_build_object('step', t.step_name));
END $$;
