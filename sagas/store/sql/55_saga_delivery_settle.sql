-- One attempt's outcome, if the attempt is still the current one. p_error null: delivered. Else again in p_retry_in
-- seconds, or (null) parked. Answers {"verdict": done | recorded | retried | parked | late, "publish": the message
-- of whatever may go now}.
CREATE OR REPLACE FUNCTION saga_delivery_settle(
    p_delivery bigint, p_attempt uuid, p_error jsonb, p_retry_in double precision
) RETURNS jsonb
LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    d saga_deliveries;
BEGIN
    SELECT * INTO d FROM saga_deliveries WHERE delivery_id = p_delivery FOR UPDATE;
    IF NOT FOUND OR d.attempt_id IS DISTINCT FROM p_attempt THEN RETURN '{"verdict": "late"}'; END IF;
    IF d.lease_until IS NULL THEN RETURN '{"verdict": "recorded"}'; END IF;
    IF p_error IS NULL THEN
        RETURN jsonb_build_object('verdict', 'done', 'publish', saga_delivery_close(d, 'DONE', NULL));
    END IF;
    RETURN jsonb_build_object('verdict', CASE WHEN p_retry_in IS NULL THEN 'parked' ELSE 'retried' END,
        'publish', saga_delivery_fail(d, p_error, p_retry_in));
END $$;
