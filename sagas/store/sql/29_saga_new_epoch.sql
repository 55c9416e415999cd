-- After a crash of PostgreSQL the unlogged epoch is empty: claims that did not wait for the disk may have vanished
-- while their attempts go on. Each current idempotent step may have had its effect, until its limit has passed (R13), but
-- not one that acts by its commit alone: a transactional one, or a child's start.
CREATE OR REPLACE FUNCTION saga_new_epoch(p_margin double precision) RETURNS void
LANGUAGE plpgsql VOLATILE AS $$
BEGIN
    IF EXISTS (SELECT FROM engine_epoch) THEN RETURN; END IF;
    PERFORM FROM saga_instances WHERE wake_at IS NOT NULL AND state IN ('PENDING', 'IN_PROGRESS') ORDER BY saga_id FOR UPDATE;
    UPDATE saga_steps t SET effect_possible = true,
        undo_rank = CASE WHEN t.has_compensation THEN 1000000 + t.step_order END
    FROM saga_instances s
    WHERE s.saga_id = t.saga_id AND s.wake_at IS NOT NULL AND s.state IN ('PENDING', 'IN_PROGRESS')
        AND t.step_order = s.current_step
        AND t.state = 'PENDING' AND t.idempotent AND NOT t.transactional AND t.child IS NULL;
    -- A pivot whose claim may have vanished is open (R16).
    UPDATE saga_instances s SET pivot_open = s.pivot_open OR t.pivot,
        quiet_at = greatest(s.quiet_at, saga_now() + make_interval(secs => t.timeout_s + p_margin))
    FROM saga_steps t
    WHERE s.saga_id = t.saga_id AND s.wake_at IS NOT NULL AND s.state IN ('PENDING', 'IN_PROGRESS')
        AND t.step_order = s.current_step
        AND t.state = 'PENDING' AND t.idempotent AND NOT t.transactional AND t.child IS NULL;
    INSERT INTO engine_epoch (since) VALUES (saga_now()) ON CONFLICT DO NOTHING;
END $$;
