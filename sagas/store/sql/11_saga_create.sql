-- Start sagas of one type in one statement for all of them, or find those that there are. p_items: [{"payload", "key",
-- "saga_id", "brought_by"}, ...], all but the payload may be null; p_published: the caller publishes the first messages after
-- its commit, otherwise reconcile does. Answers [{"saga_id", "created", "state", "route"}, ...] in their order.
-- Errors: SG001 unknown saga, SG002 bad payload or key, SG003 key or id used with another payload.
CREATE OR REPLACE FUNCTION saga_create(
    p_type text, p_items jsonb, p_correlation text, p_actor text, p_metadata jsonb, p_version integer, p_published boolean
) RETURNS jsonb
LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    d saga_definitions;
    v_now timestamptz := saga_now();
    -- When reconcile looks for the first message: at once, or where the caller publishes it a while later.
    v_look timestamptz := v_now + CASE WHEN p_published THEN interval '2 s' ELSE interval '0' END;
    v_deadline timestamptz;
    -- Set by the engine alone (StartRequest.shadow): a name that nobody's own metadata has.
    v_shadow boolean := coalesce(p_metadata -> 'sagas.shadow' = 'true', false);
    v_problem text;
    v_all jsonb;
    v_made uuid[];
BEGIN
    SELECT * INTO d FROM saga_definitions
    WHERE name = p_type AND (p_version IS NULL OR version = p_version) ORDER BY version DESC LIMIT 1;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'no saga % is defined in this database', quote_literal(coalesce(p_type, '')
            || coalesce(' version ' || p_version, '')) USING ERRCODE = 'SG001',
            HINT = 'start a worker that loads it, or run: hodei db upgrade';
    END IF;
    SELECT problem INTO v_problem FROM jsonb_to_recordset(p_items) AS i (payload jsonb, key text), LATERAL (SELECT CASE
        WHEN jsonb_typeof(payload) IS DISTINCT FROM 'object' THEN format('the payload of saga %s must be a JSON object', p_type)
        WHEN octet_length(payload::text) > d.max_payload THEN format('the payload of saga %s has %s bytes, more than %s',
            p_type, octet_length(payload::text), d.max_payload)
        WHEN key = '' OR length(key) > 255 THEN
            format('the idempotency key of saga %s must have 1 to 255 characters', p_type) END) q (problem)
    WHERE problem IS NOT NULL LIMIT 1;
    IF FOUND THEN RAISE EXCEPTION USING MESSAGE = v_problem, ERRCODE = 'SG002'; END IF;
    v_deadline := v_now + make_interval(secs => d.timeout_s);
    WITH given AS MATERIALIZED (
        SELECT n, payload, key, coalesce(saga_id, saga_new_id()) AS saga_id, brought_by FROM ROWS FROM (
            jsonb_to_recordset(p_items) AS (payload jsonb, key text, saga_id uuid, brought_by uuid)
        ) WITH ORDINALITY AS i (payload, key, saga_id, brought_by, n)
    ), items AS MATERIALIZED (
        SELECT *, row_number() OVER (PARTITION BY saga_id ORDER BY n) = 1 AS first FROM given
    ), made AS (
        -- A conflict waits for the other transaction, which has the id or the key; its row is found below (R8). In the order
        -- of their keys, whoever starts them, so that no two wait for each other; of one key the first.
        INSERT INTO saga_instances (saga_id, saga_type, version, state, correlation_id, actor, idempotency_key, context,
            stages, shadow, wake_at, deadline, started_at, brought_by)
        SELECT saga_id, p_type, d.version, 'PENDING', p_correlation, p_actor, key,
            jsonb_build_object('payload', payload, 'metadata', coalesce(p_metadata, '{}')), jsonb_array_length(d.steps),
            v_shadow, least(v_look, v_deadline), v_deadline, v_now, brought_by
        FROM items WHERE first ORDER BY key COLLATE "C", n
        ON CONFLICT DO NOTHING RETURNING saga_id
    ), steps AS (
        INSERT INTO saga_steps (step_id, saga_id, step_name, step_order, stage, idempotent, transactional, pivot,
            compensate_on_failure, has_compensation, has_verify, timeout_s, undo_timeout_s, max_attempts,
            undo_max_attempts, queue, undo_queue, priority, child, published_at, look_at)
        SELECT saga_step_id(i.saga_id, p.place), i.saga_id, p.name, p.place - 1, p.place - 1, p.idempotent,
            p.transactional, p.pivot, p.compensate_on_failure, p.has_compensation, p.has_verify, p.timeout_s,
            p.undo_timeout_s, p.max_attempts, p.undo_max_attempts, saga_queue(p.queue, i.payload),
            saga_queue(p.undo_queue, i.payload), p.priority, p.child,
            CASE WHEN p_published AND p.place = 1 THEN v_now END, CASE WHEN p.place = 1 THEN v_look END
        FROM made JOIN items i ON i.saga_id = made.saga_id AND i.first
        CROSS JOIN ROWS FROM (jsonb_to_recordset(d.steps) AS (name text, idempotent boolean, transactional boolean,
            pivot boolean, compensate_on_failure boolean, has_compensation boolean, has_verify boolean,
            timeout_s double precision, undo_timeout_s double precision, max_attempts integer, undo_max_attempts integer,
            queue text, undo_queue text, priority integer, child text)) WITH ORDINALITY
            AS p (name, idempotent, transactional, pivot, compensate_on_failure, has_compensation, has_verify, timeout_s,
                  undo_timeout_s, max_attempts, undo_max_attempts, queue, undo_queue, priority, child, place)
        RETURNING saga_id, step_order, step_name, queue, priority
    ), routes AS (
        -- As saga_route makes it, which cannot see these rows yet.
        SELECT saga_id, jsonb_agg(jsonb_build_object('step', step_name, 'queue', queue, 'priority', priority)
            ORDER BY step_order) AS route
        FROM steps WHERE step_order < 4 GROUP BY saga_id
    )
    SELECT coalesce(jsonb_agg(jsonb_build_object('saga_id', i.saga_id, 'created', r.saga_id IS NOT NULL,
            'state', 'PENDING', 'route', r.route) ORDER BY n), '[]'),
        array_agg(r.saga_id ORDER BY n) FILTER (WHERE r.saga_id IS NOT NULL)
    INTO v_all, v_made
    FROM items i LEFT JOIN routes r ON r.saga_id = i.saga_id AND i.first;
    PERFORM saga_append('saga:' || id, 'SagaStarted', jsonb_build_object('saga_type', p_type, 'version', d.version), id,
        p_correlation, NULL, p_actor) FROM unnest(v_made) id;
    IF coalesce(cardinality(v_made), 0) < jsonb_array_length(p_items) THEN
        SELECT jsonb_agg(CASE WHEN (answer ->> 'created')::boolean THEN answer
            ELSE saga_found(p_type, item ->> 'key', (answer ->> 'saga_id')::uuid, item -> 'payload') END ORDER BY n)
        INTO v_all
        FROM ROWS FROM (jsonb_array_elements(v_all), jsonb_array_elements(p_items)) WITH ORDINALITY AS q (answer, item, n);
    END IF;
    RETURN v_all;
END $$;
