-- A person's verb for a parked delivery: retry (open again, with all its attempts) or drop (given up, with a reason).
-- Answers {"verdict": retried | dropped | not_parked | unknown, "publish": a message or null}.
CREATE OR REPLACE FUNCTION saga_delivery_mend(p_delivery bigint, p_verb text, p_reason text, p_actor text) RETURNS jsonb
LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    d saga_deliveries;
BEGIN
    SELECT * INTO d FROM saga_deliveries WHERE delivery_id = p_delivery FOR UPDATE;
    IF NOT FOUND THEN RETURN '{"verdict": "unknown"}'; END IF;
    IF d.state <> 'PARKED' THEN RETURN jsonb_build_object('verdict', 'not_parked', 'state', d.state); END IF;
    PERFORM saga_append('events', CASE p_verb WHEN 'drop' THEN 'DeliveryDropped' ELSE 'DeliveryRetried' END,
        jsonb_strip_nulls(jsonb_build_object('delivery_id', d.delivery_id, 'subscriber', d.subscriber,
            'event_id', d.event_id, 'stream', d.stream, 'reason', p_reason)), p_actor => p_actor);
    IF p_verb = 'drop' THEN
        UPDATE saga_deliveries SET state = 'DROPPED' WHERE delivery_id = p_delivery;
        RETURN '{"verdict": "dropped"}';
    END IF;
    UPDATE saga_deliveries SET state = 'OPEN', attempt = 0, attempt_id = NULL, republished = 0, closed_at = NULL,
        error = NULL, look_at = saga_now()
    WHERE delivery_id = p_delivery;
    RETURN jsonb_build_object('verdict', 'retried', 'publish', saga_delivery_send(d.subscriber, d.stream));
END $$;
