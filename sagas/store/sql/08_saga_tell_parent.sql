-- A child is at its end: its parent is due. Only a wake: locks are taken parent before child (R10), so that a parent whose
-- row is held just now is left to its own look a few seconds later.
CREATE OR REPLACE FUNCTION saga_tell_parent(p_parent uuid, p_child uuid) RETURNS void
LANGUAGE plpgsql VOLATILE AS $$
BEGIN
    PERFORM FROM saga_instances WHERE saga_id = p_parent AND wake_at IS NOT NULL AND paused_at IS NULL
    FOR UPDATE SKIP LOCKED;
    IF NOT FOUND THEN RETURN; END IF;
    UPDATE saga_steps SET look_at = saga_now()
    WHERE saga_id = p_parent AND child_saga_id = p_child AND state IN ('WAITING', 'COMPENSATING') AND look_at IS NOT NULL;
    UPDATE saga_instances SET wake_at = least(wake_at, saga_now()) WHERE saga_id = p_parent;
END $$;
