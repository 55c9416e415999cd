-- What a granted claim is told of its saga. Outputs ride along while they are few; later they are fetched when asked for,
-- so that a step of a thousand-step saga costs what a step of a four-step saga costs.
CREATE OR REPLACE FUNCTION saga_grant(s saga_instances) RETURNS jsonb
LANGUAGE sql STABLE AS $$
    SELECT jsonb_build_object(
        'saga_type', s.saga_type, 'version', s.version, 'correlation_id', s.correlation_id, 'actor', s.actor,
        'started_at', s.started_at, 'context', s.context, 'shadow', s.shadow,
        'outputs', CASE WHEN s.completions <= 16 THEN
            (SELECT coalesce(jsonb_object_agg(o.step_name, o.output_data), '{}') FROM saga_steps o
             WHERE o.saga_id = s.saga_id AND o.output_data IS NOT NULL) END)
$$;
