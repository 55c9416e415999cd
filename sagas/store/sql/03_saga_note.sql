-- Append one event to a saga's own stream. Not in SQL: PostgreSQL would plan it anew at each call.
CREATE OR REPLACE FUNCTION saga_note(s saga_instances, p_type text, p_step text, p_payload jsonb) RETURNS bigint
LANGUAGE plpgsql VOLATILE AS $$
BEGIN
    RETURN saga_append('saga:' || s.saga_id, p_type, jsonb_strip_nulls(coalesce(p_payload, '{}')), s.saga_id,
                      s.correlation_id, p_step, s.actor);
END $$;
