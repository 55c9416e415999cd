-- Of version 7 (RFC 9562), as SagaId.new makes it: for who starts a saga and has no id for it.
CREATE OR REPLACE FUNCTION saga_new_id() RETURNS uuid
LANGUAGE sql VOLATILE AS $$
    -- Its version's bits are 0100 before.
    SELECT encode(set_bit(set_bit(overlay(uuid_send(gen_random_uuid())
        PLACING substring(int8send(floor(extract(epoch FROM saga_now()) * 1000)::bigint) FROM 3) FROM 1 FOR 6),
        52, 1), 53, 1), 'hex')::uuid
$$;
