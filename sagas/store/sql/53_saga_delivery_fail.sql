-- An attempt to deliver (the caller holds the row) has failed: again in p_retry_in seconds, by its row; null: parked.
-- Answers the message to be published now, or null.
CREATE OR REPLACE FUNCTION saga_delivery_fail(d saga_deliveries, p_error jsonb, p_retry_in double precision)
RETURNS jsonb
LANGUAGE plpgsql VOLATILE AS $$
BEGIN
    IF p_retry_in IS NULL THEN RETURN saga_delivery_close(d, 'PARKED', p_error); END IF;
    -- The id is rotated: what the attempt says later is refused.
    UPDATE saga_deliveries SET attempt_id = gen_random_uuid(), lease_until = NULL, published_at = NULL, error = p_error,
        look_at = saga_now() + make_interval(secs => p_retry_in)
    WHERE delivery_id = d.delivery_id;
    RETURN saga_delivery_send(d.subscriber, d.stream);
END $$;
