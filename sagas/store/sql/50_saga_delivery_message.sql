-- What is published for a delivery: ids only, the event stays here.
CREATE OR REPLACE FUNCTION saga_delivery_message(d saga_deliveries) RETURNS jsonb
LANGUAGE sql STABLE AS $$
    SELECT jsonb_build_object('delivery_id', d.delivery_id, 'subscriber', d.subscriber, 'queue', d.target,
        'saga_id', (SELECT saga_id FROM saga_events WHERE event_id = d.event_id))
$$;
