-- How many sagas wait for a message in each of these queues, and how many messages they need (saga_packed):
-- {"steps": {"waiting": 3, "needed": 2}, ...}. Compared with the queue's depth, the latter tells how many messages were lost,
-- whatever their age (R22).
CREATE OR REPLACE FUNCTION saga_waiting(p_queues text[]) RETURNS jsonb
LANGUAGE sql STABLE AS $$
    -- saga_now() is volatile: it is asked once, not for each row.
    WITH clock AS MATERIALIZED (SELECT saga_now() AS now), waiting AS (
        SELECT t.queue, t.not_before, NOT saga_packed(s, t, b, f) AS own
        FROM saga_instances s JOIN saga_steps t ON t.saga_id = s.saga_id AND t.step_order = s.current_step
        LEFT JOIN saga_instances b ON b.saga_id = s.brought_by
        LEFT JOIN saga_steps f ON f.saga_id = b.saga_id AND f.step_order = 0
        WHERE s.wake_at < 'infinity' AND s.state IN ('PENDING', 'IN_PROGRESS')
            AND s.live_claims = 0 AND s.paused_at IS NULL
        UNION ALL
        SELECT u.undo_queue, u.not_before, true FROM saga_instances s CROSS JOIN LATERAL saga_next_undo(s.saga_id) u
        WHERE s.wake_at < 'infinity' AND s.state = 'COMPENSATING' AND s.live_claims = 0 AND s.paused_at IS NULL
    )
    SELECT coalesce(jsonb_object_agg(w.queue, jsonb_build_object('waiting', w.n, 'needed', w.own)), '{}') FROM (
        SELECT queue, count(*) AS n, count(*) FILTER (WHERE own) AS own FROM waiting, clock
        WHERE queue = ANY (p_queues) AND (not_before IS NULL OR not_before <= clock.now) GROUP BY queue
    ) w
$$;
