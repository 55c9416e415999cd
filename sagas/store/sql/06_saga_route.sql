-- What the next message carries: a few steps forward, or a few undos in reverse. [{"step", "queue", "priority"}, ...]
CREATE OR REPLACE FUNCTION saga_route(p_saga uuid, p_undo boolean, p_from integer) RETURNS jsonb
LANGUAGE sql STABLE AS $$
    SELECT coalesce(jsonb_agg(jsonb_build_object('step', r.step_name, 'queue', r.queue, 'priority', r.priority)
                              ORDER BY r.place), '[]')
    FROM (
        (SELECT step_name, queue, priority, step_order AS place FROM saga_steps
         WHERE NOT p_undo AND saga_id = p_saga AND step_order >= p_from ORDER BY step_order LIMIT 4)
        UNION ALL
        (SELECT step_name, undo_queue, priority, -undo_rank FROM saga_steps
         WHERE p_undo AND saga_id = p_saga AND undo_rank IS NOT NULL
            -- Not beyond a child: that one is undone without a message, and takes its time.
            AND undo_rank > coalesce((SELECT max(c.undo_rank) FROM saga_steps c
                WHERE c.saga_id = p_saga AND c.undo_rank IS NOT NULL AND c.child IS NOT NULL), -1)
         ORDER BY undo_rank DESC LIMIT 4)
    ) r
$$;
