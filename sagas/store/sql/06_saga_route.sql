-- What the next message carries: a few steps forward, or a few undos in reverse. [{"step", "queue", "priority"}, ...]
-- Not in SQL, and each direction a statement of its own: a function in SQL that is not inlined took five times as long.
CREATE OR REPLACE FUNCTION saga_route(p_saga uuid, p_undo boolean, p_from integer) RETURNS jsonb
LANGUAGE plpgsql STABLE AS $$
BEGIN
    IF NOT p_undo THEN
        RETURN (SELECT coalesce(jsonb_agg(jsonb_build_object('step', step_name, 'queue', queue, 'priority', priority)
                ORDER BY step_order), '[]')
            FROM saga_steps WHERE saga_id = p_saga AND step_order BETWEEN p_from AND p_from + 3);
    END IF;
    RETURN (SELECT coalesce(jsonb_agg(jsonb_build_object('step', step_name, 'queue', undo_queue, 'priority', priority)
            ORDER BY undo_rank DESC), '[]')
        FROM (
            SELECT step_name, undo_queue, priority, undo_rank FROM saga_steps
            WHERE saga_id = p_saga AND undo_rank IS NOT NULL
                -- Not beyond a child: that one is undone without a message, and takes its time.
                AND undo_rank > coalesce((SELECT max(c.undo_rank) FROM saga_steps c
                    WHERE c.saga_id = p_saga AND c.undo_rank IS NOT NULL AND c.child IS NOT NULL), -1)
            ORDER BY undo_rank DESC LIMIT 4
        ) r);
END $$;
