-- Claim the undo that is next, if it is of one of those steps and due: the one place that begins an undo. The caller holds
-- the row of a saga that goes back, and has seen that nothing of it runs but what it has ended itself (saga_claim_step has
-- the rules). Answers null, with nothing written, or what differs from a plain grant.
CREATE OR REPLACE FUNCTION saga_claim_undo(
    p_saga uuid, p_steps text[], p_attempt uuid, p_node text, p_host text, p_pid integer, p_started double precision,
    p_margin double precision, p_incarnation uuid
) RETURNS jsonb
LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    v_now timestamptz := saga_now();
    v_first uuid := saga_undo_first(p_saga);
    v_lease timestamptz;
    v_claim jsonb;
BEGIN
    UPDATE saga_steps SET state = 'COMPENSATING', phase = 'undo', undo_attempt = undo_attempt + 1, attempt_id = p_attempt,
        claimed_by = p_node, claim_node = p_incarnation, claim_host = p_host, claim_pid = p_pid, claim_started = p_started,
        lease_until = v_now + make_interval(secs => undo_timeout_s + p_margin), not_before = NULL, look_at = NULL,
        published_at = NULL, republished = 0, started_at = coalesce(started_at, v_now)
    WHERE step_id = v_first AND step_name = ANY (p_steps) AND child IS NULL AND lease_until IS NULL
        AND (not_before IS NULL OR not_before <= v_now) AND attempt_id IS DISTINCT FROM p_attempt
    RETURNING lease_until, jsonb_build_object('step', step_name, 'phase', phase, 'attempt', undo_attempt,
        'timeout_s', undo_timeout_s, 'output', output_data, 'compensation_data', compensation_data,
        'transactional', transactional)
    INTO v_lease, v_claim;
    IF NOT FOUND THEN RETURN NULL; END IF;
    -- What is handed on keeps the earliest end of its leases, and mostly nothing changes.
    UPDATE saga_instances SET live_claims = 1, claimed = true,
        wake_at = least(CASE WHEN live_claims > 0 THEN wake_at END, v_lease)
    WHERE saga_id = p_saga AND (live_claims = 0 OR wake_at > v_lease);
    RETURN v_claim;
END $$;
