-- Start these sagas in one transaction: all of them or none. Their newest version, and saga_create's answers.
CREATE OR REPLACE FUNCTION saga_start_many(
    p_type text, p_items jsonb, p_correlation text, p_actor text, p_metadata jsonb, p_published boolean
) RETURNS jsonb
LANGUAGE plpgsql VOLATILE AS $$
BEGIN
    RETURN saga_create(p_type, p_items, p_correlation, p_actor, p_metadata, NULL, p_published);
END $$;
