-- A step is done (t: its row as it was claimed), or a person skips it. Writes the step and its event; answers the saga as
-- it is to be saved: its caller does that, together with what it does next.
CREATE OR REPLACE FUNCTION saga_step_done(
    s saga_instances, t saga_steps, p_output jsonb, p_skip boolean DEFAULT false
) RETURNS saga_instances
LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    v_now timestamptz := saga_now();
    v_event bigint;
BEGIN
    UPDATE saga_steps SET state = CASE WHEN p_skip THEN 'SKIPPED' ELSE 'COMPLETED' END, phase = 'forward',
        output_data = p_output, error = NULL, effect_possible = effect_possible AND NOT p_skip,
        completed_at = v_now, lease_until = NULL, not_before = NULL, look_at = NULL, waiting_since = NULL,
        undo_rank = CASE WHEN has_compensation AND NOT p_skip THEN s.completions + 1 END
    WHERE step_id = t.step_id;
    v_event := saga_note(s, CASE WHEN p_skip THEN 'StepSkipped' ELSE 'StepCompleted' END, t.step_name,
        jsonb_build_object('attempt', t.attempt));
    s.completions := s.completions + 1;
    -- A child that was waited for counts as a live claim (R10); what a person completes was held by nobody.
    IF t.lease_until IS NOT NULL OR t.state = 'WAITING' THEN s.live_claims := s.live_claims - 1; END IF;
    -- It was running when the saga turned round (R10): its effect is on record, so that it is undone.
    IF s.state = 'COMPENSATING' THEN RETURN s; END IF;
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
        s.wake_at := CASE WHEN s.paused_at IS NOT NULL THEN 'infinity' ELSE least(s.deadline, v_now + interval '2 s') END;
    END IF;
    RETURN s;
END $$;
