-- Something other than the subscriber's code was in the way (the database it writes to): as saga_delivery_settle, but the
-- attempt is not spent. The same id again gets the same answer.
CREATE OR REPLACE FUNCTION saga_delivery_give_back(
    p_delivery bigint, p_attempt uuid, p_error jsonb, p_retry_in double precision
) RETURNS jsonb
LANGUAGE plpgsql VOLATILE AS $$
BEGIN
    UPDATE saga_deliveries SET attempt = attempt - 1
    WHERE delivery_id = p_delivery AND attempt_id = p_attempt AND lease_until IS NOT NULL;
    RETURN saga_delivery_settle(p_delivery, p_attempt, p_error, p_retry_in);
END $$;
