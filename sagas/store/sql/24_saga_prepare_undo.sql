-- Store what an undo will need, before the effect; false if the attempt is no longer the current one.
CREATE OR REPLACE FUNCTION saga_prepare_undo(p_saga uuid, p_step text, p_attempt uuid, p_data jsonb) RETURNS boolean
LANGUAGE plpgsql VOLATILE AS $$
BEGIN
    PERFORM FROM saga_instances WHERE saga_id = p_saga FOR UPDATE;
    UPDATE saga_steps SET compensation_data = p_data
    WHERE saga_id = p_saga AND step_name = p_step AND attempt_id = p_attempt AND lease_until IS NOT NULL;
    RETURN FOUND;
END $$;
