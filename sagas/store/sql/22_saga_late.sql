-- An attempt that was taken for lost reports after all (R19). It moves nothing forward; its effect is written down,
-- and undone if the saga went back. A late undo is no effect, and a late verify is refused (R14).
CREATE OR REPLACE FUNCTION saga_late(
    s saga_instances, t saga_steps, p_attempt uuid, p_outcome text, p_output jsonb
) RETURNS jsonb
LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    v_entry jsonb := jsonb_build_object('step', t.step_name, 'attempt_id', p_attempt, 'output', p_output, 'late', true);
BEGIN
    IF p_outcome NOT IN ('done', 'bad_output') OR EXISTS (SELECT FROM saga_events WHERE stream = 'saga:' || s.saga_id
            AND payload ->> 'attempt_id' = p_attempt::text
            AND (event_type = 'LateEffect' OR event_type = 'AttemptLost' AND payload ->> 'phase' <> 'forward')) THEN
        RETURN jsonb_build_object('verdict', 'late', 'next', 'wait');
    END IF;
    IF t.state = 'UNKNOWN' AND t.last_attempt_id = p_attempt AND s.state = 'IN_PROGRESS'
            AND p_outcome = 'done' THEN
        -- The very attempt whose outcome is unknown: this is the answer, also while a verify asks (its claim ends here).
        RETURN jsonb_build_object('verdict', 'committed', 'next', saga_complete_step(s, t, p_output),
            'route', saga_route(s.saga_id, false, t.step_order + 1));
    END IF;
    PERFORM saga_note(s, 'LateEffect', t.step_name, v_entry);
    IF s.state = 'COMPENSATING' AND t.has_compensation THEN
        UPDATE saga_steps SET effect_possible = true, output_data = coalesce(p_output, output_data),
            late_effect = lease_until IS NOT NULL,
            state = CASE state WHEN 'COMPENSATED' THEN 'COMPENSATING' ELSE state END,
            undo_attempt = CASE WHEN lease_until IS NULL THEN 0 ELSE undo_attempt END,
            undo_rank = coalesce(undo_rank, 1000000 + step_order)
        WHERE step_id = t.step_id;
        RETURN jsonb_build_object('verdict', 'late', 'next', saga_undo_next(s.saga_id, true),
            'route', saga_route(s.saga_id, true, 0));
    ELSIF s.state IN ('PENDING', 'IN_PROGRESS') AND t.idempotent THEN
        UPDATE saga_steps SET effect_possible = true,
            undo_rank = CASE WHEN has_compensation THEN coalesce(undo_rank, 1000000 + step_order) END
        WHERE step_id = t.step_id;
    ELSE
        UPDATE saga_instances SET outstanding = outstanding || v_entry WHERE saga_id = s.saga_id;
    END IF;
    RETURN jsonb_build_object('verdict', 'late', 'next', 'wait');
END $$;
