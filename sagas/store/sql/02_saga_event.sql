-- Append one event: saga_append for callers from outside, whose search_path and patience with locks are not ours. What runs
-- inside another function calls saga_append itself: settings are set and restored at each call of a function that has them.
CREATE OR REPLACE FUNCTION saga_event(
    p_stream text, p_type text, p_payload jsonb DEFAULT '{}', p_saga uuid DEFAULT NULL, p_correlation text DEFAULT NULL,
    p_step text DEFAULT NULL, p_actor text DEFAULT NULL
) RETURNS bigint
LANGUAGE plpgsql VOLATILE AS $$
BEGIN
    RETURN saga_append(p_stream, p_type, p_payload, p_saga, p_correlation, p_step, p_actor);
END $$;
