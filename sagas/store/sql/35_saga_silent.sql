-- Claims that may be taken over early: forward, idempotent, of nodes that have been silent for p_dead seconds (R11).
-- After a gap in which reconcile did not see the database, silence is judged only two beats later.
CREATE OR REPLACE FUNCTION saga_silent(p_beat double precision, p_dead double precision) RETURNS jsonb
LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    v_now timestamptz := saga_now();
    v_trust timestamptz;
BEGIN
    UPDATE engine_state SET reconciled_at = v_now,
        trust_from = CASE WHEN v_now - reconciled_at > make_interval(secs => 2 * p_beat)
            THEN v_now + make_interval(secs => 2 * p_beat) ELSE trust_from END
    RETURNING trust_from INTO v_trust;
    IF v_trust > v_now THEN RETURN '[]'; END IF;
    RETURN (SELECT coalesce(jsonb_agg(jsonb_build_object('saga_id', t.saga_id, 'step', t.step_name, 'attempt_id',
            t.attempt_id, 'node', n.node)), '[]')
        FROM saga_claimed() t JOIN celery_nodes n ON n.incarnation = t.claim_node
        WHERE t.phase = 'forward' AND t.idempotent AND n.last_seen < v_now - make_interval(secs => p_dead));
END $$;
