-- Write one attempt's outcome by the rules, if the attempt is still the current one (P3, R4, R5); what is plainly done is
-- written by saga_done and saga_undone, which ask here for all else; what has plainly failed, by saga_failed.
-- p_ride: the message that carried this step carries its successor too. p_events: [[type, payload], ...] of ctx.emit.
-- p_steps, p_next: what the reporting process may go on to, and as which attempt. Claimed here only where the reply to
-- the same commit was lost: asked again, the same attempt is granted again (R5). p_margin as in saga_claim.
-- Answers {"verdict": committed | recorded | late | gone, "next": continue | undo | again | wait | end, "route": [...],
-- "touched"}: another saga that this has moved, a child or a parent; its message may be due; and, if that was granted,
-- "then": {"step", ...}, the part of its claim that is the step's, its saga being known.
CREATE OR REPLACE FUNCTION saga_commit(
    p_saga uuid, p_step text, p_attempt uuid, p_outcome text, p_output jsonb, p_error jsonb, p_events jsonb,
    p_retry_in double precision, p_ride boolean, p_steps text[] DEFAULT NULL, p_next uuid DEFAULT NULL,
    p_margin double precision DEFAULT NULL
) RETURNS jsonb
LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    s saga_instances;
    t saga_steps;
    n saga_steps;
    v_undo boolean;
    v_next text;
    v_claim jsonb;
BEGIN
    IF p_outcome = 'failed' THEN
        v_claim := saga_failed(p_saga, p_step, p_attempt, p_error, p_retry_in);
        IF v_claim IS NOT NULL THEN RETURN v_claim; END IF;
    END IF;
    SELECT * INTO s FROM saga_instances WHERE saga_id = p_saga FOR UPDATE;
    SELECT * INTO t FROM saga_steps WHERE saga_id = p_saga AND step_name = p_step;
    IF NOT FOUND THEN
        RETURN jsonb_build_object('verdict', 'gone', 'next', 'wait');
    ELSIF t.attempt_id IS DISTINCT FROM p_attempt THEN
        RETURN saga_late(s, t, p_attempt, p_outcome, p_output);
    END IF;
    v_undo := t.phase = 'undo';
    IF t.lease_until IS NOT NULL THEN
        IF p_outcome = 'done' AND p_events <> '[]' THEN
            PERFORM saga_note(s, e ->> 0, t.step_name, e -> 1) FROM jsonb_array_elements(p_events) e;
        END IF;
        RETURN saga_answer(p_saga, saga_settle(s, t, p_outcome, p_output, p_error, p_retry_in), p_ride, v_undo, t.step_order,
            s.parent_saga_id);
    END IF;
    -- The reply to the same commit was lost; it is said again.
    v_next := CASE s.state WHEN 'IN_PROGRESS' THEN CASE t.state WHEN 'COMPLETED' THEN 'continue' ELSE 'wait' END
                           WHEN 'COMPENSATING' THEN 'undo' ELSE 'end' END;
    IF p_steps IS NOT NULL AND v_next = (CASE WHEN v_undo THEN 'undo' ELSE 'continue' END) THEN
        IF v_undo THEN
            n := saga_next_undo(p_saga);
        ELSE
            SELECT * INTO n FROM saga_steps WHERE saga_id = p_saga AND step_order = s.current_step;
        END IF;
        IF n.step_name = ANY (p_steps) THEN
            v_claim := saga_claim_step(s, n, true, v_undo, p_next, t.claimed_by, t.claim_host, t.claim_pid, t.claim_started,
                p_margin, t.claim_node);
            IF v_claim ->> 'verdict' = 'granted' THEN
                RETURN jsonb_build_object('verdict', 'recorded', 'next', v_next, 'then', v_claim);
            END IF;
        END IF;
    END IF;
    RETURN saga_answer(p_saga, v_next, p_ride, v_undo, t.step_order, s.parent_saga_id) || jsonb_build_object('verdict',
        'recorded', 'route', saga_route(p_saga, s.state = 'COMPENSATING', s.current_step));
END $$;
