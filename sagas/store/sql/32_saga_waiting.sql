-- How many sagas wait for a message in each of these queues: {"steps": 3, ...}. Compared with the queue's depth, this
-- tells how many messages were lost, whatever their age (R22).
CREATE OR REPLACE FUNCTION saga_waiting(p_queues text[]) RETURNS jsonb
LANGUAGE sql STABLE AS $$
    SELECT coalesce(jsonb_object_agg(w.queue, w.n), '{}') FROM (
        SELECT CASE WHEN s.state = 'COMPENSATING' THEN u.undo_queue ELSE t.queue END AS queue, count(*) AS n
        FROM saga_instances s
        LEFT JOIN saga_steps t ON s.state <> 'COMPENSATING' AND t.saga_id = s.saga_id AND t.step_order = s.current_step
        LEFT JOIN LATERAL saga_next_undo(s.saga_id) u ON s.state = 'COMPENSATING'
        WHERE s.wake_at < 'infinity' AND s.state IN ('PENDING', 'IN_PROGRESS', 'COMPENSATING')
            AND s.live_claims = 0 AND s.paused_at IS NULL
            AND coalesce(t.not_before, u.not_before, saga_now()) <= saga_now()
        GROUP BY 1
    ) w WHERE w.queue = ANY (p_queues)
$$;
