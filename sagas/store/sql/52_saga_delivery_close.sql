-- A delivery (the caller holds its row) is at its end: DONE, PARKED or DROPPED; the next one of its lane may go.
-- Answers the message to be published for that, or null.
CREATE OR REPLACE FUNCTION saga_delivery_close(d saga_deliveries, p_state text, p_error jsonb) RETURNS jsonb
LANGUAGE plpgsql VOLATILE AS $$
BEGIN
    UPDATE saga_deliveries SET state = p_state, error = coalesce(p_error, error), closed_at = saga_now(), look_at = NULL,
        lease_until = NULL, published_at = NULL
    WHERE delivery_id = d.delivery_id;
    IF p_state = 'PARKED' THEN
        PERFORM saga_append('events', 'DeliveryParked', jsonb_build_object('delivery_id', d.delivery_id,
            'subscriber', d.subscriber, 'event_id', d.event_id, 'stream', d.stream, 'attempts', d.attempt,
            'error', p_error));
    END IF;
    RETURN saga_delivery_send(d.subscriber, d.stream);
END $$;
