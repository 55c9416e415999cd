-- The saga that has this key, or this id: what its start answers if it is asked again. SG003: it is another one's.
CREATE OR REPLACE FUNCTION saga_found(p_type text, p_key text, p_saga uuid, p_payload jsonb) RETURNS jsonb
LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    s saga_instances;
BEGIN
    SELECT * INTO s FROM saga_instances WHERE saga_type = p_type AND idempotency_key = p_key;
    IF NOT FOUND THEN
        SELECT * INTO s FROM saga_instances WHERE saga_id = p_saga;
    END IF;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'id % is given twice in one call, with different keys', p_saga USING ERRCODE = 'SG003';
    ELSIF p_key IS NOT NULL AND s.idempotency_key IS DISTINCT FROM p_key THEN
        RAISE EXCEPTION 'saga % was started with another key than %', s.saga_id, quote_literal(p_key)
            USING ERRCODE = 'SG003';
    ELSIF s.saga_type <> p_type OR s.context -> 'payload' <> p_payload THEN
        RAISE EXCEPTION 'saga % was started with % and another payload', s.saga_id,
            coalesce('key ' || quote_literal(p_key), 'this id') USING ERRCODE = 'SG003';
    END IF;
    RETURN jsonb_build_object('saga_id', s.saga_id, 'created', false, 'state', s.state, 'route', '[]'::jsonb);
END $$;
