-- A live claim is taken for lost: its lease ran out, or its process is proven dead. Its attempt is spent; after the last
-- one the delivery is parked: an event that kills whoever handles it must not do so for ever.
-- Answers the message to be published now, or null.
CREATE OR REPLACE FUNCTION saga_delivery_lost(p_delivery bigint, p_attempt uuid, p_why text) RETURNS jsonb
LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    d saga_deliveries;
    v_most integer;
BEGIN
    SELECT * INTO d FROM saga_deliveries WHERE delivery_id = p_delivery FOR UPDATE;
    IF NOT FOUND OR d.attempt_id IS DISTINCT FROM p_attempt OR d.lease_until IS NULL THEN RETURN NULL; END IF;
    SELECT max(max_attempts) INTO v_most FROM saga_subscriptions WHERE subscriber = d.subscriber;
    RETURN saga_delivery_fail(d, jsonb_build_object('type', 'AttemptLost', 'message', p_why),
        CASE WHEN d.attempt < coalesce(v_most, 10) THEN 0 END);
END $$;
