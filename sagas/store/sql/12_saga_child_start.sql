-- A step that is a saga: its attempt has made the payload, and the child starts in the transaction that records it. The
-- step waits as a row; its child counts as a live claim until it is at its end (R10). The round is part of the key, so
-- that a person's retry does not find the old child.
CREATE OR REPLACE FUNCTION saga_child_start(s saga_instances, t saga_steps, p_payload jsonb) RETURNS text
LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    v_key text := 'child:' || s.saga_id || ':' || t.step_name || ':';
    v_child uuid;
BEGIN
    v_key := v_key || 1 + (SELECT count(*) FROM saga_instances
        WHERE parent_saga_id = s.saga_id AND starts_with(idempotency_key, v_key));
    v_child := saga_start(t.child, p_payload, v_key, s.correlation_id, s.actor, NULL, '{}', NULL, false) ->> 'saga_id';
    UPDATE saga_instances SET parent_saga_id = s.saga_id, shadow = s.shadow WHERE saga_id = v_child;
    UPDATE saga_steps SET state = 'WAITING', child_saga_id = v_child, lease_until = NULL, error = NULL,
        waiting_since = NULL, look_at = saga_now() + interval '2 s'
    WHERE step_id = t.step_id;
    PERFORM saga_note(s, 'ChildStarted', t.step_name, jsonb_build_object('attempt', t.attempt, 'child_saga_id', v_child,
        'saga_type', t.child));
    PERFORM saga_rewake(s.saga_id);
    RETURN 'wait';
END $$;
