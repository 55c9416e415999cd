-- The id of a saga's step in this place (from 1): of the saga's time, where that has one, so that it lies near it in order; and no
-- system call for its randomness. Not the saga's id counted up: a caller's own ids may be.
CREATE OR REPLACE FUNCTION saga_step_id(p_saga uuid, p_place bigint) RETURNS uuid
LANGUAGE sql IMMUTABLE AS $$
    SELECT (left(p_saga::text, 13) || substr(md5(p_saga::text || p_place::text), 13))::uuid
$$;
