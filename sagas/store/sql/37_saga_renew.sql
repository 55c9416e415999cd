-- An attempt that no time limit can end says that it still runs; false if its claim is gone.
CREATE OR REPLACE FUNCTION saga_renew(p_saga uuid, p_step text, p_attempt uuid, p_seconds double precision)
RETURNS boolean
LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    v_found boolean;
BEGIN
    PERFORM FROM saga_instances WHERE saga_id = p_saga FOR UPDATE;
    UPDATE saga_steps SET lease_until = greatest(lease_until, saga_now() + make_interval(secs => p_seconds))
    WHERE saga_id = p_saga AND step_name = p_step AND attempt_id = p_attempt AND lease_until IS NOT NULL;
    v_found := FOUND;
    PERFORM saga_rewake(p_saga);
    RETURN v_found;
END $$;
