-- A step is done (t: its row as it was claimed), or a person skips it. Answers what comes next: continue, undo, wait, end.
CREATE OR REPLACE FUNCTION saga_complete_step(
    s saga_instances, t saga_steps, p_output jsonb, p_skip boolean DEFAULT false
) RETURNS text
LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    v_now timestamptz := saga_now();
    v_last boolean := s.current_step + 1 >= s.stages;
    -- A child that was waited for counts as a live claim (R10); what a person completes was held by nobody.
    v_held integer := (t.lease_until IS NOT NULL OR t.state = 'WAITING')::integer;
BEGIN
    UPDATE saga_steps SET state = CASE WHEN p_skip THEN 'SKIPPED' ELSE 'COMPLETED' END, phase = 'forward',
        output_data = p_output, error = NULL, effect_possible = effect_possible AND NOT p_skip,
        completed_at = v_now, lease_until = NULL, not_before = NULL, look_at = NULL, waiting_since = NULL,
        undo_rank = CASE WHEN has_compensation AND NOT p_skip THEN s.completions + 1 END
    WHERE step_id = t.step_id;
    PERFORM saga_note(s, CASE WHEN p_skip THEN 'StepSkipped' ELSE 'StepCompleted' END, t.step_name,
        jsonb_build_object('attempt', t.attempt));
    IF s.state = 'COMPENSATING' THEN
        -- It was running when the saga turned round (R10): its effect is on record, so that it is undone.
        UPDATE saga_instances SET completions = completions + 1,
            live_claims = live_claims - v_held WHERE saga_id = s.saga_id;
        RETURN saga_undo_next(s.saga_id, true);
    END IF;
    IF NOT v_last THEN
        UPDATE saga_steps SET published_at = v_now, look_at = v_now + interval '2 s'
        WHERE saga_id = s.saga_id AND step_order = s.current_step + 1;
    END IF;
    UPDATE saga_instances SET completions = completions + 1,
        live_claims = live_claims - v_held,
        current_step = current_step + 1,
        pivot_passed = pivot_passed OR (t.pivot AND NOT p_skip), pivot_open = pivot_open AND NOT t.pivot,
        state = CASE WHEN v_last THEN 'COMPLETED' ELSE 'IN_PROGRESS' END,
        completed_at = CASE WHEN v_last THEN v_now END,
        wake_at = CASE WHEN v_last THEN NULL WHEN paused_at IS NOT NULL THEN 'infinity'
            ELSE least(deadline, v_now + interval '2 s') END
    WHERE saga_id = s.saga_id AND state = 'IN_PROGRESS';
    IF s.cancel_requested IS NOT NULL THEN
        PERFORM saga_note(s, 'CancelRefused', t.step_name, s.cancel_requested || '{"why": "the pivot is done"}');
        UPDATE saga_instances SET cancel_requested = NULL WHERE saga_id = s.saga_id;
    END IF;
    IF v_last THEN
        PERFORM saga_note(s, 'SagaCompleted', NULL, NULL);
        IF s.parent_saga_id IS NOT NULL THEN PERFORM saga_tell_parent(s.parent_saga_id, s.saga_id); END IF;
        RETURN 'end';
    END IF;
    RETURN 'continue';
END $$;
