-- A step is done and nobody goes straight on (s: as saga_step_done has left it; p_was: its state before that). Saves the
-- saga and answers what comes next: continue, undo, wait, end.
CREATE OR REPLACE FUNCTION saga_go_on(s saga_instances, t saga_steps, p_was text) RETURNS text
LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    v_now timestamptz := saga_now();
BEGIN
    PERFORM saga_save(s, p_was);
    IF s.state = 'COMPENSATING' THEN RETURN saga_undo_next(s.saga_id, true); END IF;
    IF s.state = 'IN_PROGRESS' THEN
        UPDATE saga_steps SET published_at = v_now, look_at = v_now + interval '2 s'
        WHERE saga_id = s.saga_id AND step_order = s.current_step;
    END IF;
    IF s.cancel_requested IS NOT NULL THEN
        PERFORM saga_note(s, 'CancelRefused', t.step_name, s.cancel_requested || '{"why": "the pivot is done"}');
        UPDATE saga_instances SET cancel_requested = NULL WHERE saga_id = s.saga_id;
    END IF;
    IF s.state = 'IN_PROGRESS' THEN RETURN 'continue'; END IF;
    PERFORM saga_note(s, 'SagaCompleted', NULL, NULL);
    IF s.parent_saga_id IS NOT NULL THEN PERFORM saga_tell_parent(s.parent_saga_id, s.saga_id); END IF;
    RETURN 'end';
END $$;
