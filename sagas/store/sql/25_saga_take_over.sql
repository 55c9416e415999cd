-- Take a live claim for lost: its lease ran out, or its process is proven dead. Rotates the attempt id and writes the
-- unknown outcome in one statement (R4); the old id is refused from now on. p_early: its node is only silent, and may be
-- hung: forward steps that are idempotent may begin again at once, everything else of the saga waits for quiet_at (R11).
CREATE OR REPLACE FUNCTION saga_take_over(p_saga uuid, p_step text, p_attempt uuid, p_why text, p_early boolean DEFAULT false)
RETURNS text
LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    s saga_instances;
    t saga_steps;
    v_next text;
BEGIN
    SELECT * INTO s FROM saga_instances WHERE saga_id = p_saga FOR UPDATE;
    UPDATE saga_steps SET attempt_id = gen_random_uuid(),
        last_attempt_id = CASE phase WHEN 'forward' THEN attempt_id ELSE last_attempt_id END
    WHERE saga_id = p_saga AND step_name = p_step AND attempt_id = p_attempt AND lease_until IS NOT NULL
        AND (NOT p_early OR (phase = 'forward' AND idempotent))
    RETURNING * INTO t;
    IF NOT FOUND THEN RETURN 'gone'; END IF;
    IF p_early THEN
        UPDATE saga_instances SET quiet_at = greatest(quiet_at, t.lease_until) WHERE saga_id = p_saga RETURNING * INTO s;
    END IF;
    PERFORM saga_note(s, 'AttemptLost', p_step, jsonb_build_object('attempt_id', p_attempt, 'node', t.claimed_by,
        'phase', t.phase, 'why', p_why));
    v_next := saga_settle(s, t, 'unknown', NULL, jsonb_build_object('type', 'AttemptLost', 'message', p_why), 0);
    IF v_next = 'again' THEN
        -- The attempt that would have published its successor is the one that is lost.
        UPDATE saga_steps SET published_at = NULL, look_at = not_before WHERE step_id = t.step_id;
        PERFORM saga_rewake(p_saga);
    END IF;
    RETURN v_next;
END $$;
