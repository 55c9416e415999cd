-- A step is done, or a person skips it, by the rules (t: its row as it was claimed); the saga moves on. Answers what comes
-- next: continue, undo, wait, end.
CREATE OR REPLACE FUNCTION saga_complete_step(
    s saga_instances, t saga_steps, p_output jsonb, p_skip boolean DEFAULT false
) RETURNS text
LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    v_now timestamptz := saga_now();
BEGIN
    UPDATE saga_steps SET state = CASE WHEN p_skip THEN 'SKIPPED' ELSE 'COMPLETED' END, phase = 'forward',
        output_data = p_output, error = NULL, effect_possible = effect_possible AND NOT p_skip,
        completed_at = v_now, lease_until = NULL, not_before = NULL, look_at = NULL, waiting_since = NULL,
        undo_rank = CASE WHEN has_compensation AND NOT p_skip THEN s.completions + 1 END
    WHERE step_id = t.step_id;
    PERFORM saga_note(s, CASE WHEN p_skip THEN 'StepSkipped' ELSE 'StepCompleted' END, t.step_name,
        jsonb_build_object('attempt', t.attempt));
    s.completions := s.completions + 1;
    -- A child that was waited for counts as a live claim (R10); what a person completes was held by nobody.
    IF t.lease_until IS NOT NULL OR t.state = 'WAITING' THEN s.live_claims := s.live_claims - 1; END IF;
    IF s.state = 'COMPENSATING' THEN
        -- It was running when the saga turned round (R10): its effect is on record, so that it is undone.
        UPDATE saga_instances SET completions = s.completions, live_claims = s.live_claims
        WHERE saga_id = s.saga_id AND state = 'COMPENSATING';
        RETURN saga_undo_next(s.saga_id, true);
    END IF;
    s.current_step := s.current_step + 1;
    IF t.pivot THEN
        s.pivot_open := false;
        s.pivot_passed := s.pivot_passed OR NOT p_skip;
    END IF;
    IF s.current_step >= s.stages THEN
        s.state := 'COMPLETED';
        s.completed_at := v_now;
        s.wake_at := NULL;
    ELSE
        s.wake_at := CASE WHEN s.paused_at IS NOT NULL THEN 'infinity'
            ELSE least(s.wake_at, s.deadline, v_now + interval '2 s') END;
        UPDATE saga_steps SET published_at = v_now, look_at = v_now + interval '2 s'
        WHERE saga_id = s.saga_id AND step_order = s.current_step;
    END IF;
    UPDATE saga_instances SET state = s.state, current_step = s.current_step, completions = s.completions,
        live_claims = s.live_claims, pivot_open = s.pivot_open, pivot_passed = s.pivot_passed, wake_at = s.wake_at,
        completed_at = s.completed_at
    WHERE saga_id = s.saga_id AND state = 'IN_PROGRESS';
    IF s.cancel_requested IS NOT NULL THEN
        PERFORM saga_note(s, 'CancelRefused', t.step_name, s.cancel_requested || '{"why": "the pivot is done"}');
        UPDATE saga_instances SET cancel_requested = NULL WHERE saga_id = s.saga_id;
    END IF;
    IF s.state = 'IN_PROGRESS' THEN RETURN 'continue'; END IF;
    PERFORM saga_note(s, 'SagaCompleted', NULL, NULL);
    IF s.parent_saga_id IS NOT NULL THEN PERFORM saga_tell_parent(s.parent_saga_id, s.saga_id); END IF;
    RETURN 'end';
END $$;
