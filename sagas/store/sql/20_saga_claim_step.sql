-- Claim a step (or its compensation, or its verify) for one attempt: P3, P5, R3, R5, R9, R10, R14. The caller holds the
-- saga's row; p_turn: it is this one's turn.
-- Answers {"verdict": "granted", ...} or {"verdict": why not, ...}. Claims write no event (R13).
CREATE OR REPLACE FUNCTION saga_claim_step(
    s saga_instances, t saga_steps, p_turn boolean, p_undo boolean, p_attempt uuid, p_node text, p_host text, p_pid integer,
    p_started double precision, p_margin double precision, p_incarnation uuid
) RETURNS jsonb
LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    v_now timestamptz := saga_now();
    v_phase text := CASE WHEN p_undo THEN 'undo' WHEN t.state = 'UNKNOWN' THEN 'verify' ELSE 'forward' END;
    v_verdict text;
BEGIN
    -- The same id again gets the same answer: the reply to its first claim was lost.
    IF t.attempt_id = p_attempt THEN
        IF t.lease_until IS NULL THEN RETURN jsonb_build_object('verdict', 'recorded'); END IF;
        RETURN saga_grant_step(s, t);
    END IF;
    v_verdict := CASE
        WHEN s.state IN ('COMPLETED', 'COMPENSATED', 'CANCELLED', 'FAILED') THEN 'terminal'
        WHEN s.paused_at IS NOT NULL THEN 'paused'
        WHEN p_undo <> (s.state = 'COMPENSATING') THEN 'wrong_direction'
        WHEN p_undo AND s.live_claims > 0 THEN 'claimed'
        WHEN p_undo AND t.child IS NOT NULL THEN 'child'
        WHEN p_turn IS NOT TRUE THEN 'not_current'
        WHEN t.lease_until IS NOT NULL THEN 'claimed'
        WHEN v_phase = 'forward' AND t.state <> 'PENDING' THEN 'done'
        WHEN t.not_before > v_now THEN 'not_due'
        WHEN s.quiet_at > v_now AND (v_phase <> 'forward' OR NOT t.idempotent) THEN 'quiet'
        ELSE 'granted' END;
    IF v_verdict <> 'granted' THEN
        RETURN jsonb_build_object('verdict', v_verdict, 'state', s.state, 'step_state', t.state);
    END IF;
    IF v_phase <> 'verify' THEN
        RETURN coalesce('{"verdict": "granted", "phase": "forward"}' || CASE v_phase
            WHEN 'forward' THEN saga_claim_forward(s.saga_id, t.step_order, ARRAY[t.step_name], false, p_attempt, p_node,
                p_host, p_pid, p_started, p_margin, p_incarnation)
            ELSE saga_claim_undo(s.saga_id, ARRAY[t.step_name], p_attempt, p_node, p_host, p_pid, p_started, p_margin,
                p_incarnation) END,
            -- They look at the clock once more, which may have been set back.
            '{"verdict": "not_due"}');
    END IF;
    t.phase := v_phase;
    t.verify_attempt := t.verify_attempt + 1;
    t.lease_until := v_now + make_interval(secs => t.timeout_s + p_margin);
    UPDATE saga_steps SET phase = t.phase, verify_attempt = t.verify_attempt, attempt_id = p_attempt, claimed_by = p_node,
        claim_node = p_incarnation, claim_host = p_host, claim_pid = p_pid, claim_started = p_started,
        lease_until = t.lease_until, not_before = NULL, look_at = NULL, published_at = NULL, republished = 0
    WHERE step_id = t.step_id;
    UPDATE saga_instances SET live_claims = live_claims + 1, claimed = true,
        wake_at = least(CASE WHEN NOT pivot_open THEN deadline END, t.lease_until)
    WHERE saga_id = s.saga_id;
    RETURN saga_grant_step(s, t);
END $$;
