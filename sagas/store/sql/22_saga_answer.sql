-- What a commit answers its process: what comes next, the route of its message if nobody carries that yet, and another saga
-- that this one has moved ("touched"). p_undo, p_order: of the step that was reported; p_ride as in saga_commit.
CREATE OR REPLACE FUNCTION saga_answer(
    p_saga uuid, p_next text, p_ride boolean, p_undo boolean, p_order integer, p_parent uuid
) RETURNS jsonb
LANGUAGE plpgsql VOLATILE AS $$
BEGIN
    RETURN jsonb_build_object('verdict', 'committed', 'next', p_next, 'route', CASE
        WHEN p_next = 'continue' AND NOT p_ride THEN saga_route(p_saga, false, p_order + 1)
        WHEN p_next = 'again' THEN saga_route(p_saga, p_undo, p_order)
        WHEN p_next = 'undo' AND NOT (p_ride AND p_undo) THEN saga_route(p_saga, true, 0) END, 'touched', CASE p_next
        WHEN 'end' THEN p_parent
        WHEN 'wait' THEN (SELECT child_saga_id FROM saga_steps WHERE saga_id = p_saga AND child_saga_id IS NOT NULL
            AND state IN ('WAITING', 'COMPENSATING')) END);
END $$;
