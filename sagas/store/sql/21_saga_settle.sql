-- One attempt has ended, by its own report or taken for lost; the caller holds the saga's row and has checked the id.
CREATE OR REPLACE FUNCTION saga_settle(
    s saga_instances, t saga_steps, p_outcome text, p_output jsonb, p_error jsonb, p_retry_in double precision
) RETURNS text
LANGUAGE plpgsql VOLATILE AS $$
BEGIN
    RETURN CASE
        WHEN t.phase = 'undo' THEN saga_settle_undo(s, t, p_outcome, p_error, p_retry_in)
        WHEN p_outcome = 'child' AND s.state = 'IN_PROGRESS' THEN saga_child_start(s, t, p_output)
        -- The saga has turned round meanwhile: nothing has begun, and nothing will.
        WHEN p_outcome = 'child' THEN saga_settle_forward(s, t, 'failed', s.error, NULL)
        WHEN p_outcome = 'done' THEN saga_complete_step(s, t, p_output)
        WHEN t.phase = 'verify' THEN saga_settle_verify(s, t, p_outcome, p_error, p_retry_in)
        ELSE saga_settle_forward(s, t, p_outcome, p_error, p_retry_in) END;
END $$;
