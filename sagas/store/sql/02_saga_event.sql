-- Append one event. Callers hold the lock of the stream's row, so that ids of one stream grow in commit order (R7).
CREATE OR REPLACE FUNCTION saga_event(
    p_stream text, p_type text, p_payload jsonb DEFAULT '{}', p_saga uuid DEFAULT NULL, p_correlation text DEFAULT NULL,
    p_step text DEFAULT NULL, p_actor text DEFAULT NULL
) RETURNS bigint
LANGUAGE sql VOLATILE AS $$
    INSERT INTO saga_events (stream, event_type, payload, saga_id, correlation_id, step_name, actor, occurred_at)
    VALUES (p_stream, p_type, coalesce(p_payload, '{}'), p_saga, p_correlation, p_step, p_actor, saga_now())
    RETURNING event_id
$$;
