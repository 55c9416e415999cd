-- A step is done, or a person skips it, and the saga moves on. Answers what comes next: continue, undo, wait, end.
CREATE OR REPLACE FUNCTION saga_complete_step(
    s saga_instances, t saga_steps, p_output jsonb, p_skip boolean DEFAULT false
) RETURNS text
LANGUAGE plpgsql VOLATILE AS $$
BEGIN
    RETURN saga_go_on(saga_step_done(s, t, p_output, p_skip), t, s.state);
END $$;
