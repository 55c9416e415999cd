-- The end of a batch: what the broker has taken is done, what it refused is tried again or parked (p_failed: a list of
-- {"delivery_id", "error", "retry_in"}), the rest is free for the next relay. Answers how many were done; what another
-- relay has taken over meanwhile is left to it.
CREATE OR REPLACE FUNCTION saga_relay_taken(p_subscriber text, p_attempt uuid, p_taken bigint[], p_failed jsonb)
RETURNS integer
LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    d saga_deliveries;
    f jsonb;
    v_now timestamptz := saga_now();
    v_done integer;
BEGIN
    UPDATE saga_deliveries SET state = 'DONE', closed_at = v_now, look_at = NULL, lease_until = NULL
    WHERE delivery_id = ANY (p_taken) AND attempt_id = p_attempt AND lease_until IS NOT NULL;
    GET DIAGNOSTICS v_done = ROW_COUNT;
    FOR f IN SELECT * FROM jsonb_array_elements(p_failed) LOOP
        UPDATE saga_deliveries SET attempt = attempt + 1
        WHERE delivery_id = (f ->> 'delivery_id')::bigint AND attempt_id = p_attempt AND lease_until IS NOT NULL
        RETURNING * INTO d;
        IF FOUND THEN
            PERFORM saga_delivery_fail(d, f -> 'error', (f ->> 'retry_in')::double precision);
        END IF;
    END LOOP;
    UPDATE saga_deliveries SET lease_until = NULL, look_at = v_now
    WHERE subscriber = p_subscriber AND attempt_id = p_attempt AND lease_until IS NOT NULL;
    RETURN v_done;
END $$;
