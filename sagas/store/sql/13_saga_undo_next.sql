-- Going back: open the next undo, or end. p_published: the caller's chain carries its message, or the caller publishes it.
-- What only link_error may bring is not counted as published: if that is lost, reconcile publishes two seconds later.
CREATE OR REPLACE FUNCTION saga_undo_next(p_saga uuid, p_published boolean) RETURNS text
LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    s saga_instances;
    u saga_steps;
    v_now timestamptz := saga_now();
BEGIN
    SELECT * INTO s FROM saga_instances WHERE saga_id = p_saga;
    IF s.live_claims > 0 THEN
        PERFORM saga_rewake(p_saga);
        RETURN 'wait';
    END IF;
    LOOP
        u := saga_next_undo(p_saga);
        EXIT WHEN u.child IS NULL;
        CASE saga_child_undo(s, u)
            WHEN 'wait' THEN
                PERFORM saga_rewake(p_saga);
                RETURN 'wait';
            WHEN 'failed' THEN
                RETURN saga_fail(p_saga, 'undo', jsonb_build_object('type', 'ChildFailed', 'step', u.step_name,
                    'message', format('saga %s could not be undone; see to it, then retry', u.child_saga_id)));
            ELSE NULL;
        END CASE;
    END LOOP;
    IF u.step_id IS NULL THEN
        UPDATE saga_steps SET state = 'SKIPPED', look_at = NULL WHERE saga_id = p_saga AND state = 'PENDING';
        UPDATE saga_instances SET state = s.end_as, completed_at = v_now, wake_at = NULL
        WHERE saga_id = p_saga AND state = 'COMPENSATING';
        PERFORM saga_note(s, CASE s.end_as WHEN 'CANCELLED' THEN 'SagaCancelled' ELSE 'SagaCompensated' END, NULL,
            jsonb_build_object('error', s.error));
        IF s.parent_saga_id IS NOT NULL THEN PERFORM saga_tell_parent(s.parent_saga_id, p_saga); END IF;
        RETURN 'end';
    END IF;
    UPDATE saga_steps SET look_at = greatest(v_now + interval '2 s', s.quiet_at),
        published_at = CASE WHEN p_published THEN v_now END
    WHERE step_id = u.step_id;
    -- What saga_rewake would find: it waits for this undo alone.
    UPDATE saga_instances SET wake_at = CASE WHEN s.paused_at IS NULL THEN
            greatest(v_now + interval '2 s', s.quiet_at, u.not_before) ELSE 'infinity' END
    WHERE saga_id = p_saga AND state = 'COMPENSATING';
    RETURN 'undo';
END $$;
