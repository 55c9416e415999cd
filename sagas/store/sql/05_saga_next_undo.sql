-- The row of the step whose effect is to be undone next.
CREATE OR REPLACE FUNCTION saga_next_undo(p_saga uuid) RETURNS saga_steps
LANGUAGE plpgsql STABLE AS $$
DECLARE
    v_step uuid := saga_undo_first(p_saga);
    u saga_steps;
BEGIN
    SELECT * INTO u FROM saga_steps WHERE step_id = v_step;
    RETURN u;
END $$;
