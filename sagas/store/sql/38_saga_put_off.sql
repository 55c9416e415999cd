-- This queue holds a message for each saga that waits in it: what is due only because its message has not been
-- taken yet need not be looked at one by one (P13). Put off for p_seconds, at most p_limit sagas; answers how many.
CREATE OR REPLACE FUNCTION saga_put_off(p_queue text, p_seconds double precision, p_limit integer) RETURNS integer
LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    v_now timestamptz := saga_now();
    v_next timestamptz := v_now + make_interval(secs => p_seconds);
    v_count integer;
BEGIN
    -- The rows are locked first; each is a saga whose current step (or undo) is unclaimed, published, and due for nothing else.
    WITH due AS MATERIALIZED (
        SELECT saga_id, current_step, state = 'COMPENSATING' AS back FROM saga_instances
        WHERE state IN ('PENDING', 'IN_PROGRESS', 'COMPENSATING') AND wake_at <= v_now AND live_claims = 0
            AND paused_at IS NULL AND (quiet_at IS NULL OR quiet_at <= v_now)
            AND (deadline IS NULL OR deadline > v_now OR pivot_open OR state = 'COMPENSATING')
        ORDER BY wake_at LIMIT p_limit FOR UPDATE SKIP LOCKED
    ), put_off AS (
        UPDATE saga_steps t SET look_at = v_next FROM due
        WHERE t.saga_id = due.saga_id AND (due.back OR t.step_order = due.current_step)
            AND CASE WHEN due.back THEN t.undo_queue ELSE t.queue END = p_queue
            AND t.lease_until IS NULL AND t.published_at IS NOT NULL AND t.look_at <= v_now
            AND (t.not_before IS NULL OR t.not_before <= v_now)
        RETURNING t.saga_id
    )
    UPDATE saga_instances s SET claimed = false, wake_at = CASE
        WHEN s.state IN ('PENDING', 'IN_PROGRESS') AND NOT s.pivot_open THEN least(v_next, s.deadline) ELSE v_next END
    FROM put_off WHERE s.saga_id = put_off.saga_id;
    GET DIAGNOSTICS v_count = ROW_COUNT;
    RETURN v_count;
END $$;
