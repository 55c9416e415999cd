-- Write one attempt's outcome, if the attempt is still the current one (P3, R4, R5).
-- p_ride: the message that carried this step carries its successor too. p_events: [[type, payload], ...] of ctx.emit.
-- Answers {"verdict": committed | recorded | late | gone, "next": continue | undo | again | wait | end, "route": [...],
-- "touched"}: another saga that this has moved, a child or a parent; its message may be due.
CREATE OR REPLACE FUNCTION saga_commit(
    p_saga uuid, p_step text, p_attempt uuid, p_outcome text, p_output jsonb, p_error jsonb, p_events jsonb,
    p_retry_in double precision, p_ride boolean
) RETURNS jsonb
LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    s saga_instances;
    t saga_steps;
    v_next text;
BEGIN
    SELECT * INTO s FROM saga_instances WHERE saga_id = p_saga FOR UPDATE;
    SELECT * INTO t FROM saga_steps WHERE saga_id = p_saga AND step_name = p_step;
    IF NOT FOUND THEN
        RETURN jsonb_build_object('verdict', 'gone', 'next', 'wait');
    ELSIF t.attempt_id IS DISTINCT FROM p_attempt THEN
        RETURN saga_late(s, t, p_attempt, p_outcome, p_output);
    ELSIF t.lease_until IS NULL THEN
        -- The reply to the same commit was lost; it is said again.
        RETURN jsonb_build_object('verdict', 'recorded', 'next',
            CASE s.state WHEN 'IN_PROGRESS' THEN CASE t.state WHEN 'COMPLETED' THEN 'continue' ELSE 'wait' END
                         WHEN 'COMPENSATING' THEN 'undo' ELSE 'end' END,
            'route', saga_route(p_saga, s.state = 'COMPENSATING', s.current_step));
    END IF;
    IF p_outcome = 'done' THEN
        PERFORM saga_note(s, e ->> 0, t.step_name, e -> 1) FROM jsonb_array_elements(p_events) e;
    END IF;
    v_next := saga_settle(s, t, p_outcome, p_output, p_error, p_retry_in);
    RETURN jsonb_build_object('verdict', 'committed', 'next', v_next, 'route', CASE
        WHEN v_next = 'continue' AND NOT p_ride THEN saga_route(p_saga, false, t.step_order + 1)
        WHEN v_next = 'again' THEN saga_route(p_saga, t.phase = 'undo', t.step_order)
        WHEN v_next = 'undo' AND NOT (p_ride AND t.phase = 'undo') THEN saga_route(p_saga, true, 0) END, 'touched', CASE v_next
        WHEN 'end' THEN s.parent_saga_id
        WHEN 'wait' THEN (SELECT child_saga_id FROM saga_steps WHERE saga_id = p_saga AND child_saga_id IS NOT NULL
            AND state IN ('WAITING', 'COMPENSATING')) END);
END $$;
