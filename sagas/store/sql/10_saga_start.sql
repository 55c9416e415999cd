-- Start a saga, or find the one that has its key. p_published: the caller publishes the first message after its commit;
-- otherwise reconcile does. Answers {"saga_id", "created", "state", "route"}.
-- Errors: SG001 unknown saga, SG002 bad payload or key, SG003 key or id used with another payload.
CREATE OR REPLACE FUNCTION saga_start(
    p_type text, p_payload jsonb, p_key text, p_correlation text, p_actor text, p_saga uuid, p_metadata jsonb,
    p_version integer, p_published boolean
) RETURNS jsonb
LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    d saga_definitions;
    s saga_instances;
    v_now timestamptz := saga_now();
    -- When reconcile looks for the first message: at once, or where the caller publishes it a while later.
    v_look timestamptz := v_now + CASE WHEN p_published THEN interval '2 s' ELSE interval '0' END;
    v_created boolean;
    -- Set by the engine alone (StartRequest.shadow): a name that nobody's own metadata has.
    v_shadow boolean := coalesce(p_metadata -> 'sagas.shadow' = 'true', false);
BEGIN
    SELECT * INTO d FROM saga_definitions
    WHERE name = p_type AND (p_version IS NULL OR version = p_version) ORDER BY version DESC LIMIT 1;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'no saga % is defined in this database', quote_literal(coalesce(p_type, '')
            || coalesce(' version ' || p_version, '')) USING ERRCODE = 'SG001',
            HINT = 'start a worker that loads it, or run: hodei db upgrade';
    END IF;
    IF p_payload IS NULL OR jsonb_typeof(p_payload) <> 'object' THEN
        RAISE EXCEPTION 'the payload of saga % must be a JSON object', p_type USING ERRCODE = 'SG002';
    ELSIF octet_length(p_payload::text) > d.max_payload THEN
        RAISE EXCEPTION 'the payload of saga % has % bytes, more than %', p_type, octet_length(p_payload::text),
            d.max_payload USING ERRCODE = 'SG002';
    ELSIF p_key = '' OR length(p_key) > 255 THEN
        RAISE EXCEPTION 'the idempotency key of saga % must have 1 to 255 characters', p_type USING ERRCODE = 'SG002';
    END IF;
    -- DO UPDATE, not DO NOTHING: the second caller waits for the first one's transaction and gets its row (R8).
    IF p_key IS NULL THEN
        INSERT INTO saga_instances AS i (saga_id, saga_type, version, state, correlation_id, actor, context, stages,
            shadow, wake_at, deadline, started_at)
        VALUES (coalesce(p_saga, gen_random_uuid()), p_type, d.version, 'PENDING', p_correlation, p_actor,
            jsonb_build_object('payload', p_payload, 'metadata', coalesce(p_metadata, '{}')),
            jsonb_array_length(d.steps), v_shadow, least(v_look, v_now + make_interval(secs => d.timeout_s)),
            v_now + make_interval(secs => d.timeout_s), v_now)
        ON CONFLICT (saga_id) DO UPDATE SET saga_type = i.saga_type
        RETURNING * INTO s;
    ELSE
        BEGIN
            INSERT INTO saga_instances AS i (saga_id, saga_type, version, state, correlation_id, actor, idempotency_key,
                context, stages, shadow, wake_at, deadline, started_at)
            VALUES (coalesce(p_saga, gen_random_uuid()), p_type, d.version, 'PENDING', p_correlation, p_actor, p_key,
                jsonb_build_object('payload', p_payload, 'metadata', coalesce(p_metadata, '{}')),
                jsonb_array_length(d.steps), v_shadow, least(v_look, v_now + make_interval(secs => d.timeout_s)),
            v_now + make_interval(secs => d.timeout_s), v_now)
            ON CONFLICT (saga_type, idempotency_key) WHERE idempotency_key IS NOT NULL
                DO UPDATE SET saga_type = i.saga_type
            RETURNING * INTO s;
        EXCEPTION WHEN unique_violation THEN
            -- The same message twice at one instant: the id was there an instant before the key.
            SELECT * INTO s FROM saga_instances WHERE saga_id = p_saga FOR UPDATE;
            IF NOT FOUND THEN RAISE; END IF;
        END;
    END IF;
    v_created := NOT EXISTS (SELECT FROM saga_steps WHERE saga_id = s.saga_id);
    IF NOT v_created THEN
        IF p_key IS NOT NULL AND s.idempotency_key IS DISTINCT FROM p_key THEN
            RAISE EXCEPTION 'saga % was started with another key than %', s.saga_id, quote_literal(p_key)
                USING ERRCODE = 'SG003';
        END IF;
        IF s.saga_type <> p_type OR s.context -> 'payload' <> p_payload THEN
            RAISE EXCEPTION 'saga % was started with % and another payload', s.saga_id,
                coalesce('key ' || quote_literal(p_key), 'this id') USING ERRCODE = 'SG003';
        END IF;
        RETURN jsonb_build_object('saga_id', s.saga_id, 'created', false, 'state', s.state, 'route', '[]'::jsonb);
    END IF;
    INSERT INTO saga_steps (saga_id, step_name, step_order, stage, idempotent, transactional, pivot,
        compensate_on_failure, has_compensation, has_verify, timeout_s, undo_timeout_s, max_attempts,
        undo_max_attempts, queue, undo_queue, priority, child, published_at, look_at)
    SELECT s.saga_id, p.name, p.place - 1, p.place - 1, p.idempotent, p.transactional, p.pivot,
        p.compensate_on_failure, p.has_compensation, p.has_verify, p.timeout_s, p.undo_timeout_s, p.max_attempts,
        p.undo_max_attempts, saga_queue(p.queue, p_payload), saga_queue(p.undo_queue, p_payload), p.priority, p.child,
        CASE WHEN p_published AND p.place = 1 THEN v_now END,
        CASE WHEN p.place = 1 THEN v_look END
    FROM ROWS FROM (jsonb_to_recordset(d.steps) AS (name text, idempotent boolean, transactional boolean,
        pivot boolean, compensate_on_failure boolean, has_compensation boolean, has_verify boolean,
        timeout_s double precision, undo_timeout_s double precision, max_attempts integer, undo_max_attempts integer,
        queue text, undo_queue text, priority integer, child text)) WITH ORDINALITY
        AS p (name, idempotent, transactional, pivot, compensate_on_failure, has_compensation, has_verify, timeout_s,
              undo_timeout_s, max_attempts, undo_max_attempts, queue, undo_queue, priority, child, place);
    PERFORM saga_note(s, 'SagaStarted', NULL, jsonb_build_object('saga_type', s.saga_type, 'version', s.version));
    RETURN jsonb_build_object('saga_id', s.saga_id, 'created', true, 'state', s.state,
        'route', saga_route(s.saga_id, false, 0));
END $$;
