-- This queue lacks messages: of the sagas that saga_put_off has put off in it for more than p_seconds, and that need one of
-- their own, those that are due first are due now, at most p_limit; answers how many.
CREATE OR REPLACE FUNCTION saga_call_in(p_queue text, p_seconds double precision, p_limit integer) RETURNS integer
LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    v_now timestamptz := saga_now();
    v_far timestamptz := v_now + make_interval(secs => p_seconds);
    v_count integer;
BEGIN
    WITH away AS MATERIALIZED (
        SELECT saga_id, current_step, state = 'COMPENSATING' AS back FROM saga_instances s
        WHERE state IN ('PENDING', 'IN_PROGRESS', 'COMPENSATING') AND wake_at > v_far AND wake_at < 'infinity'
            AND live_claims = 0 AND paused_at IS NULL AND (brought_by IS NULL OR NOT saga_brought(saga_id))
            AND EXISTS (SELECT FROM saga_steps t WHERE t.saga_id = s.saga_id
                AND (s.state = 'COMPENSATING' OR t.step_order = s.current_step)
                AND CASE WHEN s.state = 'COMPENSATING' THEN t.undo_queue ELSE t.queue END = p_queue
                AND t.published_at IS NOT NULL AND t.look_at > v_far)
        ORDER BY wake_at LIMIT p_limit FOR UPDATE SKIP LOCKED
    ), called AS (
        UPDATE saga_steps t SET look_at = v_now FROM away
        WHERE t.saga_id = away.saga_id AND (away.back OR t.step_order = away.current_step)
            AND t.published_at IS NOT NULL AND t.look_at > v_far
    )
    -- If it waits for something else as well, the look finds that out.
    UPDATE saga_instances s SET wake_at = v_now FROM away WHERE s.saga_id = away.saga_id;
    GET DIAGNOSTICS v_count = ROW_COUNT;
    RETURN v_count;
END $$;
