-- The message of this delivery was lost, and is about to be sent again. What nobody claims is counted (R23): after
-- p_most messages without a claim it is parked with the reason. True: send it.
CREATE OR REPLACE FUNCTION saga_delivery_again(p_delivery bigint, p_most integer) RETURNS boolean
LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    d saga_deliveries;
BEGIN
    UPDATE saga_deliveries SET republished = republished + 1
    WHERE delivery_id = p_delivery AND state = 'OPEN' AND lease_until IS NULL RETURNING * INTO d;
    IF NOT FOUND THEN RETURN false; END IF;
    IF d.republished <= p_most THEN RETURN true; END IF;
    PERFORM saga_delivery_close(d, 'PARKED', jsonb_build_object('type', 'Unclaimed', 'message', format(
        'nobody claims it: is the task events.%s registered in a worker that consumes queue %s?', d.subscriber,
        d.target)));
    RETURN false;
END $$;
