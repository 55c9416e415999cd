-- What a granted claim is told. Outputs ride along while they are few; later they are fetched when asked for, so that
-- a step of a thousand-step saga costs what a step of a four-step saga costs.
CREATE OR REPLACE FUNCTION saga_grant(s saga_instances, t saga_steps) RETURNS jsonb
LANGUAGE sql STABLE AS $$
    SELECT jsonb_build_object(
        'verdict', 'granted', 'phase', t.phase, 'saga_type', s.saga_type, 'version', s.version,
        'correlation_id', s.correlation_id, 'actor', s.actor, 'started_at', s.started_at, 'context', s.context,
        'shadow', s.shadow,
        'attempt', CASE t.phase WHEN 'undo' THEN t.undo_attempt WHEN 'verify' THEN t.verify_attempt ELSE t.attempt END,
        'first', s.completions = 0 AND t.attempt = 1 AND t.phase = 'forward',
        'output', t.output_data, 'compensation_data', t.compensation_data,
        'timeout_s', CASE t.phase WHEN 'undo' THEN t.undo_timeout_s ELSE t.timeout_s END,
        'transactional', t.transactional AND t.phase <> 'verify',
        'outputs', CASE WHEN s.completions <= 16 THEN
            (SELECT coalesce(jsonb_object_agg(o.step_name, o.output_data), '{}') FROM saga_steps o
             WHERE o.saga_id = s.saga_id AND o.output_data IS NOT NULL) END)
$$;
