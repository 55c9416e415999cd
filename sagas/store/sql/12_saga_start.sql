-- Start one saga, or find the one that has its key: saga_create's answer for it. What is plainly a new saga is written here,
-- without the sets that many sagas need; everything else (who has the key or the id, what is wrong with it) is for saga_create.
-- A test has both start the same sagas, and compares the rows.
-- p_route: the caller has published a message with this route for the id it has minted (decision 0019). SG004: the saga has
-- another route, and is not started; that id is not to be used again.
CREATE OR REPLACE FUNCTION saga_start(
    p_type text, p_payload jsonb, p_key text, p_correlation text, p_actor text, p_saga uuid, p_metadata jsonb,
    p_version integer, p_published boolean, p_route jsonb DEFAULT NULL
) RETURNS jsonb
LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    v_now timestamptz := saga_now();
    v_look timestamptz := v_now + CASE WHEN p_published THEN interval '2 s' ELSE interval '0' END;
    v_saga uuid := coalesce(p_saga, saga_new_id());
    v_version integer;
    v_steps jsonb;
    v_max integer;
    v_deadline timestamptz;
    v_new boolean := false;
    v_event bigint;
    v_answer jsonb;
BEGIN
    IF p_route IS NOT NULL THEN PERFORM pg_advisory_xact_lock(saga_start_key(v_saga)); END IF;
    SELECT version, steps, max_payload, v_now + make_interval(secs => timeout_s) INTO v_version, v_steps, v_max, v_deadline
    FROM saga_definitions
    WHERE name = p_type AND (p_version IS NULL OR version = p_version) ORDER BY version DESC LIMIT 1;
    IF FOUND AND jsonb_typeof(p_payload) = 'object' AND octet_length(p_payload::text) <= v_max
            AND (p_key IS NULL OR length(p_key) BETWEEN 1 AND 255) THEN
        -- A conflict waits for the other transaction, which has the id or the key (R8).
        INSERT INTO saga_instances (saga_id, saga_type, version, state, correlation_id, actor, idempotency_key, context,
            stages, shadow, wake_at, deadline, started_at)
        VALUES (v_saga, p_type, v_version, 'PENDING', p_correlation, p_actor, p_key,
            jsonb_build_object('payload', p_payload, 'metadata', coalesce(p_metadata, '{}')), jsonb_array_length(v_steps),
            coalesce(p_metadata -> 'sagas.shadow' = 'true', false), least(v_look, v_deadline), v_deadline, v_now)
        ON CONFLICT DO NOTHING;
        v_new := FOUND;
    END IF;
    IF v_new THEN
        INSERT INTO saga_steps (step_id, saga_id, step_name, step_order, stage, idempotent, transactional, pivot,
            compensate_on_failure, has_compensation, has_verify, timeout_s, undo_timeout_s, max_attempts,
            undo_max_attempts, queue, undo_queue, priority, child, published_at, look_at)
        SELECT saga_step_id(v_saga, p.place), v_saga, p.name, p.place - 1, p.place - 1, p.idempotent, p.transactional,
            p.pivot, p.compensate_on_failure, p.has_compensation, p.has_verify, p.timeout_s, p.undo_timeout_s,
            p.max_attempts, p.undo_max_attempts, saga_queue(p.queue, p_payload), saga_queue(p.undo_queue, p_payload),
            p.priority, p.child, CASE WHEN p_published AND p.place = 1 THEN v_now END, CASE WHEN p.place = 1 THEN v_look END
        FROM ROWS FROM (jsonb_to_recordset(v_steps) AS (name text, idempotent boolean, transactional boolean,
            pivot boolean, compensate_on_failure boolean, has_compensation boolean, has_verify boolean,
            timeout_s double precision, undo_timeout_s double precision, max_attempts integer, undo_max_attempts integer,
            queue text, undo_queue text, priority integer, child text)) WITH ORDINALITY
            AS p (name, idempotent, transactional, pivot, compensate_on_failure, has_compensation, has_verify, timeout_s,
                  undo_timeout_s, max_attempts, undo_max_attempts, queue, undo_queue, priority, child, place);
        v_event := saga_append('saga:' || v_saga, 'SagaStarted',
            jsonb_build_object('saga_type', p_type, 'version', v_version), v_saga, p_correlation, NULL, p_actor);
        v_answer := jsonb_build_object('saga_id', v_saga, 'created', true, 'state', 'PENDING', 'route',
            saga_route(v_saga, false, 0));
    ELSE
        v_answer := saga_create(p_type, jsonb_build_array(jsonb_build_object('payload', p_payload, 'key', p_key,
            'saga_id', p_saga)), p_correlation, p_actor, p_metadata, p_version, p_published) -> 0;
    END IF;
    IF p_route IS NOT NULL AND v_answer -> 'created' = 'true' AND v_answer -> 'route' <> p_route THEN
        RAISE EXCEPTION 'saga % has another route', v_saga USING ERRCODE = 'SG004';
    END IF;
    RETURN v_answer;
END $$;
