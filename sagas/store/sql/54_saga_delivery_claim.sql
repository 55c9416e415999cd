-- The right of one attempt to deliver one event and to close the row. The same id again gets the same answer (R5).
-- Answers {"verdict": granted | closed | claimed | early | waits | unknown, "attempt", "event": {...}}.
CREATE OR REPLACE FUNCTION saga_delivery_claim(
    p_delivery bigint, p_attempt uuid, p_node text, p_host text, p_pid integer, p_started double precision,
    p_lease double precision, p_node_id uuid
) RETURNS jsonb
LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    d saga_deliveries;
    v_now timestamptz := saga_now();
BEGIN
    SELECT * INTO d FROM saga_deliveries WHERE delivery_id = p_delivery;
    IF NOT FOUND THEN RETURN '{"verdict": "unknown"}'; END IF;
    -- Claims of one lane are decided one after the other; each sees the one before it (R3).
    PERFORM pg_advisory_xact_lock(hashtextextended('saga_lane:' || d.subscriber || '/' || d.stream, 0));
    SELECT * INTO d FROM saga_deliveries WHERE delivery_id = p_delivery FOR UPDATE;
    IF d.lease_until IS NULL OR d.attempt_id <> p_attempt THEN
        IF d.state <> 'OPEN' THEN RETURN '{"verdict": "closed"}'; END IF;
        -- A lease that has run out is written by the relay first (R4).
        IF d.lease_until IS NOT NULL THEN RETURN '{"verdict": "claimed"}'; END IF;
        IF d.error IS NOT NULL AND d.published_at IS NULL AND d.look_at > v_now THEN RETURN '{"verdict": "early"}'; END IF;
        IF EXISTS (SELECT FROM saga_deliveries o WHERE o.subscriber = d.subscriber AND o.stream = d.stream
                AND o.state = 'OPEN' AND (o.event_id < d.event_id OR o.lease_until IS NOT NULL)) THEN
            RETURN '{"verdict": "waits"}';
        END IF;
        UPDATE saga_deliveries SET attempt = attempt + 1, attempt_id = p_attempt, claimed_by = p_node,
            claim_node = p_node_id, claim_host = p_host, claim_pid = p_pid, claim_started = p_started, republished = 0,
            published_at = coalesce(published_at, v_now), lease_until = v_now + make_interval(secs => p_lease),
            look_at = v_now + make_interval(secs => p_lease)
        WHERE delivery_id = p_delivery RETURNING * INTO d;
    END IF;
    RETURN jsonb_build_object('verdict', 'granted', 'attempt', d.attempt,
        'event', (SELECT to_jsonb(e) FROM saga_events e WHERE e.event_id = d.event_id));
END $$;
