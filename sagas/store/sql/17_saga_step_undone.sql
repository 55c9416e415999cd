-- A step's undo is done. Writes the step and its event; answers the saga as it is to be saved by the caller.
CREATE OR REPLACE FUNCTION saga_step_undone(s saga_instances, t saga_steps) RETURNS saga_instances
LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    v_event bigint;
BEGIN
    -- An effect that came late, while this undo ran, is undone once more (R19).
    UPDATE saga_steps SET state = CASE WHEN late_effect THEN 'COMPENSATING' ELSE 'COMPENSATED' END,
        lease_until = NULL, waiting_since = NULL, effect_possible = late_effect, late_effect = false, error = NULL,
        undo_attempt = CASE WHEN late_effect THEN 0 ELSE undo_attempt END,
        undo_rank = CASE WHEN late_effect THEN undo_rank END
    WHERE step_id = t.step_id;
    v_event := saga_note(s, 'StepCompensated', t.step_name, jsonb_build_object('attempt', t.undo_attempt));
    s.live_claims := s.live_claims - 1;
    RETURN s;
END $$;
