-- Cancel: PENDING ends at once, IN_PROGRESS goes back, an open pivot decides first (R16).
-- Answers cancelled | compensating | failed | noted | past_pivot | terminal | unknown_saga.
CREATE OR REPLACE FUNCTION saga_cancel(p_saga uuid, p_reason text, p_actor text) RETURNS jsonb
LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    s saga_instances;
    v_error jsonb := jsonb_build_object('type', 'Cancelled', 'message', coalesce(p_reason, 'cancelled'), 'actor', p_actor);
    v_next text;
BEGIN
    -- Right after a crash of PostgreSQL a PENDING saga may have begun, its claim gone (R13). 10 s: the engine's margin.
    PERFORM saga_new_epoch(10);
    SELECT * INTO s FROM saga_instances WHERE saga_id = p_saga FOR UPDATE;
    IF NOT FOUND THEN RETURN '{"verdict": "unknown_saga"}'; END IF;
    IF s.state IN ('COMPLETED', 'COMPENSATED', 'CANCELLED', 'FAILED') THEN RETURN '{"verdict": "terminal"}'; END IF;
    IF s.state = 'COMPENSATING' THEN RETURN '{"verdict": "compensating"}'; END IF;
    IF s.pivot_passed THEN RETURN '{"verdict": "past_pivot"}'; END IF;
    PERFORM saga_note(s, 'CancelRequested', NULL, v_error);
    IF s.pivot_open THEN
        UPDATE saga_instances SET cancel_requested = v_error WHERE saga_id = p_saga;
        RETURN '{"verdict": "noted"}';
    END IF;
    v_next := saga_go_back(p_saga, 'CANCELLED', v_error);
    SELECT * INTO s FROM saga_instances WHERE saga_id = p_saga;
    RETURN jsonb_build_object('verdict', lower(s.state),
        'publish', CASE v_next WHEN 'undo' THEN saga_look(p_saga, false) END);
END $$;
