-- A person's verbs for a FAILED saga (R17): retry (try again), force (it happened, with this output), skip (it did not, go
-- on). They name step and attempt, so that one sent twice acts once, and go on in the direction in which it failed.
-- Answers {"verdict": mended | not_failed | not_this_attempt | needs_force_or_skip | unknown_saga, "publish": ...}.
CREATE OR REPLACE FUNCTION saga_mend(
    p_saga uuid, p_verb text, p_step text, p_attempt uuid, p_output jsonb, p_reason text, p_actor text
) RETURNS jsonb
LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    s saga_instances;
    t saga_steps;
    v_undo boolean;
BEGIN
    SELECT * INTO s FROM saga_instances WHERE saga_id = p_saga FOR UPDATE;
    IF NOT FOUND THEN RETURN '{"verdict": "unknown_saga"}'; END IF;
    IF s.state <> 'FAILED' THEN RETURN '{"verdict": "not_failed"}'; END IF;
    v_undo := s.failed_from = 'undo';
    -- A deadline past the pivot stops at a step that may never have begun: it has no attempt to name.
    SELECT * INTO t FROM saga_steps WHERE saga_id = p_saga AND step_name = p_step
        AND attempt_id IS NOT DISTINCT FROM p_attempt
        AND CASE WHEN v_undo THEN state = 'FAILED' AND phase = 'undo'
                 ELSE state IN ('FAILED', 'UNKNOWN', 'PENDING', 'SKIPPED') AND step_order = s.current_step END;
    IF NOT FOUND THEN RETURN '{"verdict": "not_this_attempt"}'; END IF;
    IF p_verb = 'retry' AND NOT v_undo AND t.state = 'UNKNOWN' AND NOT t.idempotent THEN
        RETURN '{"verdict": "needs_force_or_skip"}';
    END IF;
    UPDATE saga_steps SET attempt_id = gen_random_uuid(), last_attempt_id = attempt_id WHERE step_id = t.step_id;
    UPDATE saga_instances SET state = CASE WHEN v_undo THEN 'COMPENSATING' ELSE 'IN_PROGRESS' END, failed_from = NULL,
        completed_at = NULL, wake_at = saga_now(), deadline = NULL, error = CASE WHEN v_undo THEN error END,
        -- What this engine listed as outstanding is found again if it fails again; what came late stays.
        outstanding = (SELECT coalesce(jsonb_agg(e), '[]') FROM jsonb_array_elements(outstanding) e WHERE e ? 'late')
    WHERE saga_id = p_saga AND state = 'FAILED' RETURNING * INTO s;
    UPDATE saga_steps SET state = 'PENDING' WHERE saga_id = p_saga AND NOT v_undo AND state = 'SKIPPED' AND attempt = 0
        AND step_order > s.current_step;
    PERFORM saga_append('saga:' || p_saga, 'SagaMended', jsonb_strip_nulls(jsonb_build_object('verb', p_verb, 'reason',
        p_reason, 'attempt_id', p_attempt, 'output', p_output)), p_saga, s.correlation_id, p_step, p_actor);
    IF p_verb = 'retry' THEN
        UPDATE saga_steps SET state = CASE WHEN v_undo THEN 'COMPENSATING' ELSE 'PENDING' END, not_before = NULL,
            published_at = NULL, look_at = saga_now(), waiting_since = NULL,
            attempt = CASE WHEN v_undo THEN attempt ELSE 0 END, undo_attempt = 0
        WHERE step_id = t.step_id;
    ELSIF v_undo THEN
        -- force: it has been undone by other means; skip: it stays as it is, and stays listed.
        UPDATE saga_steps SET state = CASE p_verb WHEN 'force' THEN 'COMPENSATED' ELSE 'SKIPPED' END, undo_rank = NULL,
            effect_possible = p_verb <> 'force', completed_at = saga_now() WHERE step_id = t.step_id;
        IF p_verb = 'skip' THEN
            UPDATE saga_instances SET outstanding = outstanding || jsonb_build_object('step', t.step_name, 'state',
                'SKIPPED', 'output', t.output_data, 'late', false) WHERE saga_id = p_saga;
        END IF;
        PERFORM saga_undo_next(p_saga, false);
    ELSE
        PERFORM saga_complete_step(s, t, CASE p_verb WHEN 'force' THEN p_output END, p_verb = 'skip');
        UPDATE saga_steps SET published_at = NULL WHERE saga_id = p_saga AND step_order = s.current_step + 1;
    END IF;
    PERFORM saga_rewake(p_saga);
    RETURN jsonb_build_object('verdict', 'mended', 'publish', saga_look(p_saga, false));
END $$;
