-- A message says that something may be due for this saga: answers what saga_look says of it, if nobody published it yet.
-- Nothing here is lost with a crash of PostgreSQL, only found again by reconcile: it waits for no disk.
CREATE OR REPLACE FUNCTION saga_hint(p_saga uuid) RETURNS jsonb
LANGUAGE plpgsql VOLATILE AS $$
BEGIN
    PERFORM set_config('synchronous_commit', 'off', true);
    PERFORM FROM saga_instances WHERE saga_id = p_saga AND paused_at IS NULL FOR UPDATE;
    RETURN CASE WHEN FOUND THEN saga_look(p_saga, false) END;
END $$;
