-- Live claims of Celery nodes that have been silent for p_dead seconds: [{"delivery_id", "attempt_id", "node"}]. Every
-- subscriber is at least once, and an attempt that only was hung is refused by its id, so they may be taken back early.
CREATE OR REPLACE FUNCTION saga_delivery_silent(p_dead double precision) RETURNS jsonb
LANGUAGE sql STABLE AS $$
    SELECT coalesce(jsonb_agg(jsonb_build_object('delivery_id', d.delivery_id, 'attempt_id', d.attempt_id,
        'node', n.node)), '[]')
    FROM saga_deliveries d JOIN celery_nodes n ON n.incarnation = d.claim_node
    WHERE d.lease_until IS NOT NULL AND n.last_seen < saga_now() - make_interval(secs => p_dead)
        AND EXISTS (SELECT FROM engine_state WHERE trust_from <= saga_now())
$$;
