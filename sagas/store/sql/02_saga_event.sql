-- Append one event. Callers hold the lock of the stream's row, so that ids of one stream grow in commit order (R7).
-- The same statement writes a delivery for each subscriber that wants it, and none where nobody does. What the relay says
-- about itself (stream `events`) is not relayed: a failing subscriber would be told of its own failures without end.
CREATE OR REPLACE FUNCTION saga_event(
    p_stream text, p_type text, p_payload jsonb DEFAULT '{}', p_saga uuid DEFAULT NULL, p_correlation text DEFAULT NULL,
    p_step text DEFAULT NULL, p_actor text DEFAULT NULL
) RETURNS bigint
LANGUAGE sql VOLATILE AS $$
    WITH event AS (
        INSERT INTO saga_events (stream, event_type, payload, saga_id, correlation_id, step_name, actor, occurred_at)
        VALUES (p_stream, p_type, coalesce(p_payload, '{}'), p_saga, p_correlation, p_step, p_actor, saga_now())
        RETURNING event_id, occurred_at
    ), deliveries AS (
        INSERT INTO saga_deliveries (event_id, subscriber, kind, target, stream, created_at, look_at)
        SELECT e.event_id, s.subscriber, s.kind, s.target, p_stream, e.occurred_at, e.occurred_at + CASE
            -- Not the first of its lane: sent by whoever closes the one before it. The relay looks only in case that the
            -- two did not see each other.
            WHEN s.kind = 'task' AND EXISTS (SELECT FROM saga_deliveries d WHERE d.subscriber = s.subscriber
                AND d.stream = p_stream AND d.state = 'OPEN') THEN interval '1 s' ELSE interval '0' END
        FROM event e CROSS JOIN (
            SELECT subscriber, min(kind) AS kind, min(target) AS target FROM saga_subscriptions
            WHERE event_type IN (p_type, '*') AND p_stream <> 'events' GROUP BY subscriber
        ) s
    )
    SELECT event_id FROM event
$$;
