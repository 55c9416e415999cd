-- A message says that something may be due for this saga: answers what saga_look says of it, if nobody published it yet.
CREATE OR REPLACE FUNCTION saga_hint(p_saga uuid) RETURNS jsonb
LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    v_state text;
    v_live integer;
BEGIN
    SELECT state, live_claims INTO v_state, v_live FROM saga_instances
    WHERE saga_id = p_saga AND paused_at IS NULL FOR UPDATE;
    IF NOT FOUND THEN RETURN NULL; END IF;
    -- On its way back already, with nothing that runs: the look only notes that the next undo is published, and needs no
    -- disk. What it decides otherwise (a turn, a claim taken over) must be durable before anybody acts on it.
    IF v_state = 'COMPENSATING' AND v_live = 0 AND (saga_next_undo(p_saga)).child IS NULL THEN
        PERFORM set_config('synchronous_commit', 'off', true);
    END IF;
    RETURN saga_look(p_saga, false);
END $$;
