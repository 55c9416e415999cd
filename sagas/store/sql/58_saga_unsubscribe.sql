-- A person's verb for a subscriber (or exchange) whose code is gone: nothing more is written for it, and what is open is
-- dropped. A worker that still has it subscribes again when it starts. Answers how many were dropped; null: not known.
CREATE OR REPLACE FUNCTION saga_unsubscribe(p_subscriber text, p_reason text, p_actor text) RETURNS integer
LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    v_types integer;
    v_dropped integer;
BEGIN
    DELETE FROM saga_subscriptions WHERE subscriber = p_subscriber;
    GET DIAGNOSTICS v_types = ROW_COUNT;
    UPDATE saga_deliveries SET state = 'DROPPED', closed_at = saga_now(), look_at = NULL, published_at = NULL
    WHERE subscriber = p_subscriber AND state = 'OPEN' AND lease_until IS NULL;
    GET DIAGNOSTICS v_dropped = ROW_COUNT;
    IF v_types = 0 AND v_dropped = 0 THEN RETURN NULL; END IF;
    PERFORM saga_append('events', 'SubscriberRemoved', jsonb_build_object('subscriber', p_subscriber,
        'dropped', v_dropped, 'reason', p_reason), p_actor => p_actor);
    RETURN v_dropped;
END $$;
