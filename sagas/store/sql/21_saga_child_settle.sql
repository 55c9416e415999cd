-- A step of this saga waits for its child (the caller holds the parent's row): if that one is at its end, the step is too,
-- in one transaction. A child that FAILED has left effects behind: undoing the step will say that a person must see to it.
CREATE OR REPLACE FUNCTION saga_child_settle(p_saga uuid) RETURNS void
LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    s saga_instances;
    t saga_steps;
    c saga_instances;
BEGIN
    SELECT * INTO t FROM saga_steps WHERE saga_id = p_saga AND state = 'WAITING';
    IF NOT FOUND THEN RETURN; END IF;
    SELECT * INTO s FROM saga_instances WHERE saga_id = p_saga;
    SELECT * INTO c FROM saga_instances WHERE saga_id = t.child_saga_id;
    IF c.completed_at IS NULL THEN
        -- Its end wakes us; this is for a wake that could not get our row.
        UPDATE saga_steps SET look_at = saga_now() + interval '5 s' WHERE step_id = t.step_id;
    ELSIF c.state = 'COMPLETED' THEN
        PERFORM saga_complete_step(s, t, jsonb_build_object('saga_id', c.saga_id, 'outputs',
            (SELECT coalesce(jsonb_object_agg(o.step_name, o.output_data), '{}') FROM saga_steps o
             WHERE o.saga_id = c.saga_id AND o.output_data IS NOT NULL)));
        -- Nobody carries the next message yet.
        UPDATE saga_steps SET published_at = NULL WHERE saga_id = p_saga AND step_order = t.step_order + 1
            AND s.state = 'IN_PROGRESS';
    ELSE
        PERFORM saga_settle_forward(s, t, CASE c.state WHEN 'FAILED' THEN 'bad_output' ELSE 'failed' END,
            jsonb_build_object('type', 'ChildFailed', 'message', format('%s saga %s is %s: %s', c.saga_type, c.saga_id,
                c.state, coalesce(c.error ->> 'message', c.error ->> 'type'))), NULL);
    END IF;
END $$;
