-- How many sagas wait for a message in each of these queues: {"steps": 3, ...}. Compared with the queue's depth, this
-- tells how many messages were lost, whatever their age (R22).
CREATE OR REPLACE FUNCTION saga_waiting(p_queues text[]) RETURNS jsonb
LANGUAGE sql STABLE AS $$
    -- saga_now() is volatile: it is asked once, not for each row.
    WITH clock AS MATERIALIZED (SELECT saga_now() AS now), waiting AS (
        SELECT t.queue, t.not_before
        FROM saga_instances s JOIN saga_steps t ON t.saga_id = s.saga_id AND t.step_order = s.current_step
        WHERE s.wake_at < 'infinity' AND s.state IN ('PENDING', 'IN_PROGRESS')
            AND s.live_claims = 0 AND s.paused_at IS NULL
        UNION ALL
        SELECT u.undo_queue, u.not_before FROM saga_instances s CROSS JOIN LATERAL saga_next_undo(s.saga_id) u
        WHERE s.wake_at < 'infinity' AND s.state = 'COMPENSATING' AND s.live_claims = 0 AND s.paused_at IS NULL
    )
    SELECT coalesce(jsonb_object_agg(w.queue, w.n), '{}') FROM (
        SELECT queue, count(*) AS n FROM waiting, clock
        WHERE queue = ANY (p_queues) AND (not_before IS NULL OR not_before <= clock.now) GROUP BY queue
    ) w
$$;
