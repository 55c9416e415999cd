-- To undo a step that was a saga is to have that saga go back (the caller holds the parent's row): the only way but a
-- person's that leaves COMPLETED (P9). Answers done | wait | failed: the child can be undone by a person alone.
CREATE OR REPLACE FUNCTION saga_child_undo(s saga_instances, u saga_steps) RETURNS text
LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    c saga_instances;
    v_now timestamptz := saga_now();
    v_why jsonb := jsonb_build_object('type', 'ParentWentBack', 'message', 'saga ' || s.saga_id || ' goes back',
        'actor', 'saga:' || s.saga_id);
BEGIN
    UPDATE saga_steps SET state = 'COMPENSATING', phase = 'undo', published_at = v_now,
        look_at = greatest(v_now + interval '5 s', s.quiet_at)
    WHERE step_id = u.step_id;
    IF s.quiet_at > v_now OR s.paused_at IS NOT NULL THEN RETURN 'wait'; END IF;
    SELECT * INTO c FROM saga_instances WHERE saga_id = u.child_saga_id FOR UPDATE;
    IF c.state = 'COMPLETED' AND NOT c.pivot_passed THEN
        UPDATE saga_instances SET state = 'COMPENSATING', end_as = 'COMPENSATED', error = v_why, completed_at = NULL,
            wake_at = v_now
        WHERE saga_id = c.saga_id AND state = 'COMPLETED' RETURNING * INTO c;
        PERFORM saga_append('saga:' || c.saga_id, 'SagaCompensating', jsonb_build_object('end_as', c.end_as,
            'error', v_why), c.saga_id, c.correlation_id, NULL, 'saga:' || s.saga_id);
        PERFORM saga_undo_next(c.saga_id, false);
        -- No link_error brings its first message.
        UPDATE saga_steps SET look_at = v_now WHERE saga_id = c.saga_id AND look_at IS NOT NULL;
        PERFORM saga_rewake(c.saga_id);
    ELSIF c.state IN ('PENDING', 'IN_PROGRESS') THEN
        -- A person had it go on after it had failed.
        PERFORM saga_cancel(c.saga_id, v_why ->> 'message', v_why ->> 'actor');
    END IF;
    SELECT * INTO c FROM saga_instances WHERE saga_id = u.child_saga_id;
    IF NOT FOUND OR c.state IN ('COMPENSATED', 'CANCELLED') THEN
        UPDATE saga_steps SET state = 'COMPENSATED', undo_rank = NULL, effect_possible = false, look_at = NULL,
            published_at = NULL
        WHERE step_id = u.step_id;
        PERFORM saga_note(s, 'StepCompensated', u.step_name, jsonb_build_object('child_saga_id', u.child_saga_id));
        RETURN 'done';
    ELSIF c.state IN ('COMPLETED', 'FAILED') THEN
        UPDATE saga_steps SET state = 'FAILED', look_at = NULL, published_at = NULL WHERE step_id = u.step_id;
        PERFORM saga_note(s, 'CompensationFailed', u.step_name, jsonb_build_object('child_saga_id', u.child_saga_id,
            'state', c.state));
        RETURN 'failed';
    END IF;
    RETURN 'wait';
END $$;
