-- The id of a saga's step in this place (from 1): next to its saga's in order, and no system call for its randomness.
CREATE OR REPLACE FUNCTION saga_step_id(p_saga uuid, p_place bigint) RETURNS uuid
LANGUAGE sql IMMUTABLE AS $$
    SELECT encode(set_byte(set_byte(uuid_send(p_saga), 15, get_byte(uuid_send(p_saga), 15) # (p_place & 255)::integer),
        14, get_byte(uuid_send(p_saga), 14) # (p_place >> 8 & 255)::integer), 'hex')::uuid
$$;
