-- One saga (the caller holds its row): write what time has decided, then say what is to be published.
-- Answers null, or {"saga_id", "saga_type", "version", "undo", "known", "queue", "since", "route", "brings"}. known: nobody has
-- published it, so that it is sure; with p_again also what was published and may have been lost. brings: the sagas that its
-- message brings besides (saga_brought), or null.
CREATE OR REPLACE FUNCTION saga_look(p_saga uuid, p_again boolean) RETURNS jsonb
LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    s saga_instances;
    t saga_steps;
    v_now timestamptz := saga_now();
    v_error jsonb := '{"type": "DeadlineExceeded", "message": "the saga did not end within its time limit"}';
    v_known boolean;
BEGIN
    SELECT * INTO s FROM saga_instances WHERE saga_id = p_saga;
    IF s.live_claims > 0 THEN
        -- Not while the database has just come back: who could not commit in time is given his back-off to do so (R11).
        FOR t IN SELECT * FROM saga_steps WHERE saga_id = p_saga AND lease_until <= v_now
                AND EXISTS (SELECT FROM engine_state WHERE trust_from <= v_now) LOOP
            PERFORM saga_take_over(p_saga, t.step_name, t.attempt_id, 'its lease ran out', false);
        END LOOP;
        SELECT * INTO s FROM saga_instances WHERE saga_id = p_saga;
    END IF;
    IF s.paused_at IS NOT NULL THEN
        PERFORM saga_rewake(p_saga);
        RETURN NULL;
    END IF;
    IF s.live_claims > 0 THEN
        PERFORM saga_child_settle(p_saga);
        SELECT * INTO s FROM saga_instances WHERE saga_id = p_saga;
    END IF;
    IF s.deadline <= v_now AND s.state IN ('PENDING', 'IN_PROGRESS') THEN
        IF s.pivot_open OR (s.pivot_passed AND s.live_claims > 0) THEN
            UPDATE saga_instances SET cancel_requested = coalesce(cancel_requested, v_error) WHERE saga_id = p_saga;
        ELSE
            PERFORM saga_go_back(p_saga, 'COMPENSATED', v_error);
        END IF;
        SELECT * INTO s FROM saga_instances WHERE saga_id = p_saga;
    END IF;
    IF s.state IN ('COMPLETED', 'COMPENSATED', 'CANCELLED', 'FAILED') THEN RETURN NULL; END IF;
    IF s.state = 'COMPENSATING' THEN
        t := saga_next_undo(p_saga);
        IF t.child IS NOT NULL THEN
            -- Undone without a message: this look is what moves it on.
            PERFORM saga_undo_next(p_saga, false);
            SELECT * INTO s FROM saga_instances WHERE saga_id = p_saga AND state = 'COMPENSATING';
            t := saga_next_undo(p_saga);
            IF s.saga_id IS NULL OR t.child IS NOT NULL THEN RETURN NULL; END IF;
        END IF;
    ELSE
        SELECT * INTO t FROM saga_steps WHERE saga_id = p_saga AND step_order = s.current_step;
    END IF;
    IF s.live_claims > 0 OR t.not_before > v_now
            OR (s.quiet_at > v_now AND (s.state = 'COMPENSATING' OR t.state = 'UNKNOWN' OR NOT t.idempotent)) THEN
        PERFORM saga_rewake(p_saga);
        -- A deadline that an open pivot postpones is looked at again, not at once and for ever.
        UPDATE saga_instances SET wake_at = v_now + interval '1 s' WHERE saga_id = p_saga AND wake_at <= v_now;
        RETURN NULL;
    END IF;
    v_known := t.published_at IS NULL;
    -- What is published is looked for when its time has come: the saga's timer may be an earlier one's.
    IF NOT v_known AND (NOT p_again OR t.look_at > v_now) THEN
        PERFORM saga_rewake(p_saga);
        RETURN NULL;
    END IF;
    -- Looked at again later the longer it has waited, at most every 5 s: a backlog is not a failure.
    UPDATE saga_steps SET published_at = coalesce(published_at, v_now),
        look_at = v_now + least(interval '5 s', interval '2 s' + coalesce(v_now - published_at, interval '0') / 4)
    WHERE step_id = t.step_id;
    PERFORM saga_rewake(p_saga);
    -- Its message is another one's.
    IF NOT v_known AND s.brought_by IS NOT NULL AND saga_brought(p_saga) THEN RETURN NULL; END IF;
    RETURN jsonb_build_object('saga_id', p_saga, 'saga_type', s.saga_type, 'version', s.version,
        'undo', s.state = 'COMPENSATING', 'known', v_known,
        'queue', CASE s.state WHEN 'COMPENSATING' THEN t.undo_queue ELSE t.queue END,
        'since', coalesce(t.published_at, v_now),
        'route', saga_route(p_saga, s.state = 'COMPENSATING', t.step_order),
        'brings', CASE s.state WHEN 'PENDING' THEN (SELECT jsonb_agg(b.saga_id) FROM saga_instances b
            WHERE b.brought_by = p_saga AND saga_brought(b.saga_id)) END);
END $$;
