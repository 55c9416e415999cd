-- saga_done of a compensation: the live undo of a saga that goes back is done, the next one claimed (p_steps: if it is one of
-- those), or left to a message, or the saga is at its end. Everything else is saga_commit's.
CREATE OR REPLACE FUNCTION saga_undone(
    p_saga uuid, p_step text, p_attempt uuid, p_output jsonb, p_ride boolean, p_margin double precision,
    p_steps text[] DEFAULT NULL, p_next uuid DEFAULT NULL, p_events jsonb DEFAULT '[]'
) RETURNS jsonb
LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    v_stream text := 'saga:' || p_saga;
    v_correlation text;
    v_actor text;
    v_parent uuid;
    v_order integer;
    v_attempt integer;
    v_node text;
    v_incarnation uuid;
    v_host text;
    v_pid integer;
    v_started double precision;
    v_claim jsonb;
    v_end text;
    v_error jsonb;
    v_event bigint;
BEGIN
    SELECT correlation_id, actor, parent_saga_id INTO v_correlation, v_actor, v_parent FROM saga_instances
    WHERE saga_id = p_saga AND state = 'COMPENSATING' AND paused_at IS NULL AND (quiet_at IS NULL OR quiet_at <= saga_now())
    FOR UPDATE;
    IF FOUND THEN
        UPDATE saga_steps SET state = 'COMPENSATED', lease_until = NULL, waiting_since = NULL, effect_possible = false,
            error = NULL, undo_rank = NULL
        WHERE saga_id = p_saga AND step_name = p_step AND attempt_id = p_attempt AND lease_until IS NOT NULL
            AND phase = 'undo' AND NOT late_effect
        RETURNING step_order, undo_attempt, claimed_by, claim_node, claim_host, claim_pid, claim_started
        INTO v_order, v_attempt, v_node, v_incarnation, v_host, v_pid, v_started;
    END IF;
    IF NOT FOUND THEN
        RETURN saga_commit(p_saga, p_step, p_attempt, 'done', p_output, NULL, p_events, NULL, p_ride, p_steps, p_next,
            p_margin);
    END IF;
    IF p_events <> '[]' THEN
        PERFORM saga_append(v_stream, e ->> 0, jsonb_strip_nulls(e -> 1), p_saga, v_correlation, p_step, v_actor)
        FROM jsonb_array_elements(p_events) e;
    END IF;
    v_event := saga_append(v_stream, 'StepCompensated', jsonb_build_object('attempt', v_attempt), p_saga, v_correlation,
        p_step, v_actor);
    IF p_steps IS NOT NULL THEN
        v_claim := saga_claim_undo(p_saga, p_steps, p_next, v_node, v_host, v_pid, v_started, p_margin, v_incarnation);
        IF v_claim IS NOT NULL THEN
            RETURN jsonb_build_object('verdict', 'committed', 'next', 'undo', 'then', v_claim);
        END IF;
    END IF;
    IF saga_undo_first(p_saga) IS NULL THEN
        -- Nothing is left to undo: what saga_undo_next writes then.
        UPDATE saga_steps SET state = 'SKIPPED', look_at = NULL WHERE saga_id = p_saga AND state = 'PENDING';
        UPDATE saga_instances SET state = end_as, completed_at = saga_now(), wake_at = NULL, live_claims = 0
        WHERE saga_id = p_saga
        RETURNING CASE end_as WHEN 'CANCELLED' THEN 'SagaCancelled' ELSE 'SagaCompensated' END, error INTO v_end, v_error;
        v_event := saga_append(v_stream, v_end, jsonb_strip_nulls(jsonb_build_object('error', v_error)), p_saga,
            v_correlation, NULL, v_actor);
        IF v_parent IS NOT NULL THEN PERFORM saga_tell_parent(v_parent, p_saga); END IF;
        RETURN jsonb_build_object('verdict', 'committed', 'next', 'end', 'touched', v_parent);
    END IF;
    UPDATE saga_instances SET live_claims = 0 WHERE saga_id = p_saga;
    RETURN saga_answer(p_saga, saga_undo_next(p_saga, true), p_ride, true, v_order, v_parent);
END $$;
