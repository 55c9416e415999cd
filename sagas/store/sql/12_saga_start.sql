-- Start one saga, or find the one that has its key: saga_create's answer for it.
CREATE OR REPLACE FUNCTION saga_start(
    p_type text, p_payload jsonb, p_key text, p_correlation text, p_actor text, p_saga uuid, p_metadata jsonb,
    p_version integer, p_published boolean
) RETURNS jsonb
LANGUAGE plpgsql VOLATILE AS $$
BEGIN
    RETURN saga_create(p_type, jsonb_build_array(jsonb_build_object('payload', p_payload, 'key', p_key, 'saga_id', p_saga)),
        p_correlation, p_actor, p_metadata, p_version, p_published) -> 0;
END $$;
