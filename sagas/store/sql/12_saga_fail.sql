-- FAILED: nothing moves by itself any more; what may still be there is listed for a person (P6).
CREATE OR REPLACE FUNCTION saga_fail(p_saga uuid, p_from text, p_error jsonb) RETURNS text
LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    s saga_instances;
BEGIN
    UPDATE saga_steps SET state = 'SKIPPED' WHERE saga_id = p_saga AND state = 'PENDING' AND attempt = 0;
    UPDATE saga_steps SET look_at = NULL WHERE saga_id = p_saga AND look_at IS NOT NULL;
    UPDATE saga_instances SET state = 'FAILED', failed_from = p_from, error = coalesce(p_error, error),
        completed_at = saga_now(), wake_at = NULL,
        outstanding = outstanding || (SELECT coalesce(jsonb_agg(jsonb_build_object('step', t.step_name, 'state',
            t.state, 'output', t.output_data) ORDER BY t.undo_rank DESC), '[]') FROM saga_steps t
            WHERE t.saga_id = p_saga AND t.undo_rank IS NOT NULL)
    WHERE saga_id = p_saga AND state IN ('IN_PROGRESS', 'COMPENSATING') RETURNING * INTO s;
    PERFORM saga_note(s, 'SagaFailed', NULL,
        jsonb_build_object('from', p_from, 'error', s.error, 'outstanding', s.outstanding));
    IF s.parent_saga_id IS NOT NULL THEN PERFORM saga_tell_parent(s.parent_saga_id, p_saga); END IF;
    RETURN 'end';
END $$;
