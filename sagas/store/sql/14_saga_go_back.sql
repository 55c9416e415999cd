-- The one place that turns a saga round (the caller holds its row): R1, R10, R16.
CREATE OR REPLACE FUNCTION saga_go_back(p_saga uuid, p_end_as text, p_error jsonb) RETURNS text
LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    s saga_instances;
    v_effect boolean;
BEGIN
    SELECT * INTO s FROM saga_instances WHERE saga_id = p_saga;
    SELECT bool_or(effect_possible), bool_or(pivot AND effect_possible) OR s.pivot_passed
    INTO v_effect, s.pivot_passed FROM saga_steps WHERE saga_id = p_saga;
    IF s.state = 'PENDING' AND NOT v_effect THEN
        UPDATE saga_steps SET state = 'SKIPPED', look_at = NULL WHERE saga_id = p_saga AND state = 'PENDING';
        UPDATE saga_instances SET state = 'CANCELLED', completed_at = saga_now(), wake_at = NULL, error = p_error
        WHERE saga_id = p_saga AND state = 'PENDING';
        PERFORM saga_note(s, 'SagaCancelled', NULL, jsonb_build_object('error', p_error));
        IF s.parent_saga_id IS NOT NULL THEN PERFORM saga_tell_parent(s.parent_saga_id, p_saga); END IF;
        RETURN 'end';
    ELSIF s.state = 'PENDING' THEN
        UPDATE saga_instances SET state = 'IN_PROGRESS' WHERE saga_id = p_saga AND state = 'PENDING';
    END IF;
    IF s.pivot_passed THEN RETURN saga_fail(p_saga, 'forward', p_error); END IF;
    -- What a step waited for on its way forward does not hold up its undo.
    UPDATE saga_steps SET look_at = NULL, not_before = NULL
    WHERE saga_id = p_saga AND (look_at IS NOT NULL OR not_before IS NOT NULL) AND state <> 'WAITING';
    -- What an open pivot postponed may have been the deadline, which is no cancel.
    UPDATE saga_instances SET state = 'COMPENSATING', error = p_error, pivot_open = false,
        end_as = CASE p_error ->> 'type' WHEN 'DeadlineExceeded' THEN 'COMPENSATED' ELSE p_end_as END,
        cancel_requested = NULL
    WHERE saga_id = p_saga AND state = 'IN_PROGRESS' RETURNING * INTO s;
    PERFORM saga_note(s, 'SagaCompensating', NULL, jsonb_build_object('end_as', s.end_as, 'error', p_error));
    -- A child that a step waits for counts as a live claim; it goes back first, and its end is waited for (R10).
    IF s.live_claims > 0 THEN
        PERFORM saga_cancel(child_saga_id, 'saga ' || p_saga || ' goes back', 'saga:' || p_saga) FROM saga_steps
        WHERE saga_id = p_saga AND state = 'WAITING';
    END IF;
    RETURN saga_undo_next(p_saga, false);
END $$;
