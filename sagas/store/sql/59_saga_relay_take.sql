-- Events for an exchange, in order, under a lease of p_lease seconds. One relay at a time publishes to it, else two of
-- them would mix up a stream. Answers null (another one is at it), or a list of {"delivery_id", "attempt", "event"}.
CREATE OR REPLACE FUNCTION saga_relay_take(
    p_subscriber text, p_attempt uuid, p_limit integer, p_lease double precision
) RETURNS jsonb
LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    v_now timestamptz := saga_now();
    v_all jsonb;
BEGIN
    IF NOT pg_try_advisory_xact_lock(hashtext('saga_relay_take'), hashtext(current_schema() || '/' || p_subscriber)) THEN
        RETURN NULL;
    END IF;
    IF EXISTS (SELECT FROM saga_deliveries WHERE subscriber = p_subscriber AND lease_until > v_now) THEN RETURN NULL; END IF;
    WITH due AS (
        SELECT d.delivery_id FROM saga_deliveries d
        WHERE d.subscriber = p_subscriber AND d.state = 'OPEN' AND d.kind = 'exchange' AND d.look_at <= v_now
            -- What follows one that waits for its retry waits with it.
            AND NOT EXISTS (SELECT FROM saga_deliveries o WHERE o.subscriber = d.subscriber AND o.stream = d.stream
                AND o.state = 'OPEN' AND o.event_id < d.event_id AND o.look_at > v_now)
        ORDER BY d.event_id LIMIT p_limit
    ), taken AS (
        -- A lease that ran out is taken over here: the id is another one, and the old relay's marks are refused.
        UPDATE saga_deliveries d SET attempt_id = p_attempt, lease_until = v_now + make_interval(secs => p_lease),
            look_at = v_now + make_interval(secs => p_lease), published_at = coalesce(d.published_at, v_now)
        FROM due WHERE d.delivery_id = due.delivery_id
        RETURNING d.delivery_id, d.event_id, d.attempt
    )
    SELECT coalesce(jsonb_agg(jsonb_build_object('delivery_id', t.delivery_id, 'attempt', t.attempt,
        'event', to_jsonb(e)) ORDER BY t.event_id), '[]') INTO v_all
    FROM taken t JOIN saga_events e USING (event_id);
    RETURN v_all;
END $$;
