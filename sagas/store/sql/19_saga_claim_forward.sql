-- Claim the step of this order for an attempt to execute it, if it is one of those, pending and due: the one place that
-- begins a step. The caller holds the saga's row and has seen that nothing of the saga forbids it (saga_claim_step has the rules).
-- p_done: the step before it is done by the same statement; the saga's row is written once for both.
-- Answers null, with nothing written, or what differs from a plain grant (PLAIN_GRANT in sagas/store/answers.py).
CREATE OR REPLACE FUNCTION saga_claim_forward(
    p_saga uuid, p_order integer, p_steps text[], p_done boolean, p_attempt uuid, p_node text, p_host text, p_pid integer,
    p_started double precision, p_margin double precision, p_incarnation uuid
) RETURNS jsonb
LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    v_now timestamptz := saga_now();
    v_step text;
    v_attempt integer;
    v_timeout double precision;
    v_lease timestamptz;
    v_pivot boolean;
    v_plain boolean;
    v_idempotent boolean;
    v_setting text;
    v_claim jsonb;
BEGIN
    UPDATE saga_steps SET state = 'IN_PROGRESS', phase = 'forward', attempt = attempt + 1, attempt_id = p_attempt,
        claimed_by = p_node, claim_node = p_incarnation, claim_host = p_host, claim_pid = p_pid, claim_started = p_started,
        lease_until = v_now + make_interval(secs => timeout_s + p_margin), last_attempt_id = NULL, not_before = NULL,
        look_at = NULL, published_at = NULL, republished = 0, started_at = coalesce(started_at, v_now)
    WHERE saga_id = p_saga AND step_order = p_order AND step_name = ANY (p_steps) AND state = 'PENDING'
        AND (not_before IS NULL OR not_before <= v_now) AND attempt_id IS DISTINCT FROM p_attempt
    -- Not all of it: a row of so many columns is dear to describe, for each statement anew.
    RETURNING step_name, attempt, timeout_s, lease_until, pivot, idempotent,
        NOT transactional AND output_data IS NULL AND compensation_data IS NULL
    INTO v_step, v_attempt, v_timeout, v_lease, v_pivot, v_idempotent, v_plain;
    IF NOT FOUND THEN RETURN NULL; END IF;
    -- Losing the claim of an idempotent step in a crash costs a second run, no more (R13); others, and whatever is done,
    -- wait for the disk.
    IF v_idempotent AND NOT p_done THEN v_setting := set_config('synchronous_commit', 'off', true); END IF;
    -- The timer is left where it is: reconcile finds that it comes too early, and puts it right (saga_put_right). Till then the
    -- row is updated in place, because nothing of it that an index holds has changed.
    UPDATE saga_instances SET state = 'IN_PROGRESS', current_step = p_order,
        live_claims = live_claims + 1 - p_done::integer, claimed = true,
        completions = completions + p_done::integer, pivot_passed = pivot_passed OR (pivot_open AND p_done),
        pivot_open = v_pivot OR (pivot_open AND NOT p_done),
        wake_at = least(wake_at, v_lease,
            CASE WHEN NOT v_pivot AND (p_done OR NOT pivot_open) THEN deadline END)
    WHERE saga_id = p_saga;
    v_claim := jsonb_build_object('step', v_step, 'attempt', v_attempt, 'timeout_s', v_timeout);
    IF v_plain THEN RETURN v_claim; END IF;
    RETURN (SELECT v_claim || jsonb_build_object('output', output_data, 'compensation_data', compensation_data,
            'transactional', transactional)
        FROM saga_steps WHERE saga_id = p_saga AND step_order = p_order);
END $$;
