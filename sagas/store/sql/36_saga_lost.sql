-- The message of this saga was lost, and is about to be sent again. What nobody claims is counted (R23): after p_most
-- messages without a claim the saga is parked with the reason. True: send it.
CREATE OR REPLACE FUNCTION saga_lost(p_saga uuid, p_most integer) RETURNS boolean
LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    s saga_instances;
    t saga_steps;
BEGIN
    SELECT * INTO s FROM saga_instances WHERE saga_id = p_saga FOR UPDATE;
    IF s.state = 'COMPENSATING' THEN
        t := saga_next_undo(p_saga);
    ELSE
        SELECT * INTO t FROM saga_steps WHERE saga_id = p_saga AND step_order = s.current_step;
    END IF;
    IF s.paused_at IS NOT NULL OR t.lease_until IS NOT NULL OR t.published_at IS NULL THEN RETURN false; END IF;
    UPDATE saga_steps SET republished = republished + 1 WHERE step_id = t.step_id RETURNING * INTO t;
    IF t.republished <= p_most THEN RETURN true; END IF;
    UPDATE saga_instances SET paused_at = saga_now(), pause_reason = format(
        'nobody claims %s.%s%s: is it registered in a worker that consumes queue %s?', s.saga_type, t.step_name,
        CASE s.state WHEN 'COMPENSATING' THEN '.compensate' ELSE '' END,
        CASE s.state WHEN 'COMPENSATING' THEN t.undo_queue ELSE t.queue END)
    WHERE saga_id = p_saga RETURNING * INTO s;
    PERFORM saga_rewake(p_saga);
    PERFORM saga_note(s, 'SagaParked', t.step_name, jsonb_build_object('reason', s.pause_reason));
    RETURN false;
END $$;
