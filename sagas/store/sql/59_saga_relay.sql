-- What should have been sent to subscribing tasks by now, at most p_limit deliveries of it (R21: SKIP LOCKED, bounded).
-- Answers {"looked_at": how many, "messages": [...]}, each message with "known" (nobody has sent it, so that it is sure)
-- and "since". The others were sent, not claimed, and may be lost. Reads idx_saga_deliveries_due only: its cost does not
-- grow with history.
CREATE OR REPLACE FUNCTION saga_relay(p_limit integer) RETURNS jsonb
LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    d saga_deliveries;
    v_now timestamptz := saga_now();
    v_one jsonb;
    v_all jsonb := '[]';
    v_count integer := 0;
    v_known boolean;
BEGIN
    FOR d IN
        SELECT * FROM saga_deliveries WHERE state = 'OPEN' AND kind = 'task' AND look_at <= v_now
        ORDER BY look_at LIMIT p_limit FOR UPDATE SKIP LOCKED
    LOOP
        v_one := NULL;
        v_count := v_count + 1;
        IF d.lease_until IS NOT NULL THEN
            -- Not while the database has just come back: who could not close it in time is given his back-off to do so.
            IF EXISTS (SELECT FROM engine_state WHERE trust_from <= v_now) THEN
                v_one := saga_delivery_lost(d.delivery_id, d.attempt_id, 'its lease ran out') || '{"known": true}';
            ELSE
                UPDATE saga_deliveries SET look_at = v_now + interval '1 s' WHERE delivery_id = d.delivery_id;
            END IF;
        ELSIF EXISTS (SELECT FROM saga_deliveries o WHERE o.subscriber = d.subscriber AND o.stream = d.stream
                AND o.state = 'OPEN' AND (o.event_id < d.event_id OR o.lease_until IS NOT NULL)) THEN
            -- Sent by whoever closes the one before it; looked at more rarely the longer it waits.
            UPDATE saga_deliveries SET look_at = v_now + greatest(interval '1 s', v_now - created_at)
            WHERE delivery_id = d.delivery_id;
        ELSE
            v_known := d.published_at IS NULL;
            UPDATE saga_deliveries SET published_at = coalesce(published_at, v_now), look_at = v_now
                + least(interval '5 s', interval '2 s' + coalesce(v_now - published_at, interval '0') / 4),
                target = coalesce((SELECT min(s.target) FROM saga_subscriptions s WHERE s.subscriber = d.subscriber),
                    target)
            WHERE delivery_id = d.delivery_id RETURNING * INTO d;
            v_one := saga_delivery_message(d) || jsonb_build_object('known', v_known, 'since', d.published_at);
        END IF;
        v_all := v_all || coalesce(v_one, '[]');
    END LOOP;
    RETURN jsonb_build_object('looked_at', v_count, 'messages', v_all);
END $$;
