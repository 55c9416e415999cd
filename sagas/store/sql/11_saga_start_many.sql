-- Start these sagas in one transaction: all of them or none. p_items: [{"payload", "key", "saga_id"}, ...]; the rest is
-- what saga_start takes, for all of them. Answers what saga_start does for each, in the same order.
CREATE OR REPLACE FUNCTION saga_start_many(
    p_type text, p_items jsonb, p_correlation text, p_actor text, p_metadata jsonb, p_published boolean
) RETURNS jsonb
LANGUAGE sql VOLATILE AS $$
    SELECT coalesce(jsonb_agg(saga_start(p_type, i.value -> 'payload', i.value ->> 'key', p_correlation, p_actor,
        (i.value ->> 'saga_id')::uuid, p_metadata, NULL, p_published) ORDER BY i.ordinality), '[]')
    FROM jsonb_array_elements(p_items) WITH ORDINALITY i
$$;
