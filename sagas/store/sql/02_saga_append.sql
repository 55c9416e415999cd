-- Append one event. Callers hold the lock of the stream's row, so that ids of one stream grow in commit order (R7).
-- A delivery is written for each subscriber that wants it, and nothing where nobody does. What the relay says about itself
-- (stream `events`) is not relayed: a failing subscriber would be told of its own failures without end.
CREATE OR REPLACE FUNCTION saga_append(
    p_stream text, p_type text, p_payload jsonb DEFAULT '{}', p_saga uuid DEFAULT NULL, p_correlation text DEFAULT NULL,
    p_step text DEFAULT NULL, p_actor text DEFAULT NULL
) RETURNS bigint
LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    v_event bigint;
    v_at timestamptz;
    v_wanted boolean;
BEGIN
    INSERT INTO saga_events (stream, event_type, payload, saga_id, correlation_id, step_name, actor, occurred_at)
    VALUES (p_stream, p_type, coalesce(p_payload, '{}'), p_saga, p_correlation, p_step, p_actor, saga_now())
    RETURNING event_id, occurred_at, EXISTS (SELECT FROM saga_subscriptions WHERE event_type IN (p_type, '*'))
    INTO v_event, v_at, v_wanted;
    IF v_wanted AND p_stream <> 'events' THEN
        INSERT INTO saga_deliveries (event_id, subscriber, kind, target, stream, created_at, look_at)
        SELECT v_event, s.subscriber, s.kind, s.target, p_stream, v_at, v_at + CASE
            -- Not the first of its lane: sent by whoever closes the one before it. The relay looks only in case that the
            -- two did not see each other.
            WHEN s.kind = 'task' AND EXISTS (SELECT FROM saga_deliveries d WHERE d.subscriber = s.subscriber
                AND d.stream = p_stream AND d.state = 'OPEN') THEN interval '1 s' ELSE interval '0' END
        FROM (
            SELECT subscriber, min(kind) AS kind, min(target) AS target FROM saga_subscriptions
            WHERE event_type IN (p_type, '*') GROUP BY subscriber
        ) s;
    END IF;
    RETURN v_event;
END $$;
