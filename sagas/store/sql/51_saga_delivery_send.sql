-- The lane (one subscriber, one stream) may have moved: mark its first open delivery as sent, if it is due and nobody has
-- sent it. Answers null, or the message that the caller publishes: {"delivery_id", "subscriber", "queue", "saga_id"}.
CREATE OR REPLACE FUNCTION saga_delivery_send(p_subscriber text, p_stream text) RETURNS jsonb
LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    d saga_deliveries;
    v_now timestamptz := saga_now();
BEGIN
    SELECT * INTO d FROM saga_deliveries WHERE subscriber = p_subscriber AND stream = p_stream AND state = 'OPEN'
    ORDER BY event_id LIMIT 1;
    -- What is to be retried keeps its time: look_at is in the future because of an error, or because it waited here.
    IF NOT FOUND OR d.kind <> 'task' OR d.lease_until IS NOT NULL OR d.published_at IS NOT NULL
            OR (d.error IS NOT NULL AND d.look_at > v_now) THEN
        RETURN NULL;
    END IF;
    UPDATE saga_deliveries SET published_at = v_now, look_at = v_now + interval '2 s',
        -- The subscriber may have moved to another queue since.
        target = coalesce((SELECT min(s.target) FROM saga_subscriptions s WHERE s.subscriber = p_subscriber), target)
    WHERE delivery_id = d.delivery_id RETURNING * INTO d;
    RETURN saga_delivery_message(d);
END $$;
