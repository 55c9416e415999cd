-- What a granted claim is told of its saga. Outputs ride along while they are few; later they are fetched when asked for,
-- so that a step of a thousand-step saga costs what a step of a four-step saga costs.
CREATE OR REPLACE FUNCTION saga_grant(s saga_instances) RETURNS jsonb
LANGUAGE plpgsql STABLE AS $$
DECLARE
    v_outputs jsonb;
BEGIN
    IF s.completions = 0 THEN
        v_outputs := '{}';
    ELSIF s.completions <= 16 THEN
        SELECT coalesce(jsonb_object_agg(step_name, output_data), '{}') INTO v_outputs FROM saga_steps
        WHERE saga_id = s.saga_id AND output_data IS NOT NULL;
    END IF;
    RETURN jsonb_build_object('verdict', 'granted',
        'saga_type', s.saga_type, 'version', s.version, 'correlation_id', s.correlation_id, 'actor', s.actor,
        'started_at', s.started_at, 'context', s.context, 'shadow', s.shadow, 'outputs', v_outputs,
        'first', s.completions = 0);
END $$;
