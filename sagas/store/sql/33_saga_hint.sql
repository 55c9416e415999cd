-- A message says that something may be due for this saga: answers what saga_look says of it, if nobody published it yet.
CREATE OR REPLACE FUNCTION saga_hint(p_saga uuid) RETURNS jsonb
LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    v_now timestamptz := saga_now();
    v_type text;
    v_version integer;
    v_back boolean;
    v_due boolean;
    v_queue text;
    v_setting text;
BEGIN
    SELECT saga_type, version, state = 'COMPENSATING' AND live_claims = 0, quiet_at IS NULL OR quiet_at <= v_now
    INTO v_type, v_version, v_back, v_due FROM saga_instances
    WHERE saga_id = p_saga AND paused_at IS NULL FOR UPDATE;
    IF NOT FOUND THEN RETURN NULL; END IF;
    -- On its way back already, with nothing that runs: the look only notes that the next undo is published, and needs no
    -- disk. What it decides otherwise (a turn, a claim taken over) must be durable before anybody acts on it.
    IF v_back AND v_due THEN
        -- The plain way: the next undo is due; what saga_look and saga_rewake would write, without asking them. A test has
        -- both do it, and compares the rows.
        UPDATE saga_steps SET published_at = v_now, look_at = v_now + interval '2 s'
        WHERE step_id = saga_undo_first(p_saga) AND published_at IS NULL AND child IS NULL
            AND (not_before IS NULL OR not_before <= v_now)
        RETURNING undo_queue INTO v_queue;
        IF FOUND THEN
            v_setting := set_config('synchronous_commit', 'off', true);
            UPDATE saga_instances SET wake_at = v_now + interval '2 s', claimed = false WHERE saga_id = p_saga;
            RETURN jsonb_build_object('saga_id', p_saga, 'saga_type', v_type, 'version', v_version, 'undo', true,
                'known', true, 'queue', v_queue, 'since', v_now, 'route', saga_route(p_saga, true, 0));
        END IF;
    END IF;
    IF v_back AND (saga_next_undo(p_saga)).child IS NULL THEN
        v_setting := set_config('synchronous_commit', 'off', true);
    END IF;
    RETURN saga_look(p_saga, false);
END $$;
