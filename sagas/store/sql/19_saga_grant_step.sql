-- What a granted claim is told of its step.
CREATE OR REPLACE FUNCTION saga_grant_step(s saga_instances, t saga_steps) RETURNS jsonb
LANGUAGE plpgsql STABLE AS $$
BEGIN
    RETURN jsonb_build_object(
        'verdict', 'granted', 'step', t.step_name, 'phase', t.phase,
        'attempt', CASE t.phase WHEN 'undo' THEN t.undo_attempt WHEN 'verify' THEN t.verify_attempt ELSE t.attempt END,
        'output', t.output_data, 'compensation_data', t.compensation_data,
        'timeout_s', CASE t.phase WHEN 'undo' THEN t.undo_timeout_s ELSE t.timeout_s END,
        'transactional', t.transactional AND t.phase <> 'verify');
END $$;
