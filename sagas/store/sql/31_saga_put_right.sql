-- The timers of sagas that are due and wait for nothing that is: their step is claimed, or its message is out, and neither is to
-- be looked for yet (decision 0021). Put right all at once, so that they take up none of a tick's looks. At most p_limit are
-- asked; answers how many were put right.
CREATE OR REPLACE FUNCTION saga_put_right(p_limit integer) RETURNS integer
LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    v_now timestamptz := saga_now();
    -- Forgotten by a crash, it is found out once more.
    v_setting text := set_config('synchronous_commit', 'off', true);
    v_sagas uuid[];
BEGIN
    -- Locked first: saga_rewake then reads what whoever had the row has left there. (No joins: there may be no statistics, or a
    -- long history, and the planner would read one of the tables from end to end. Nor by state, but by idx_saga_instances_wake.)
    WITH due AS MATERIALIZED (
        SELECT saga_id, state, current_step FROM saga_instances
        WHERE wake_at <= v_now AND paused_at IS NULL AND (deadline IS NULL OR deadline > v_now)
        ORDER BY wake_at LIMIT p_limit
    ), early AS MATERIALIZED (
        SELECT saga_id FROM saga_instances
        WHERE saga_id = ANY (ARRAY(
            SELECT saga_id FROM due d
            WHERE state <> 'COMPENSATING' AND (
                SELECT t.lease_until > v_now OR (t.published_at IS NOT NULL AND t.look_at > v_now) FROM saga_steps t
                WHERE t.saga_id = d.saga_id AND t.step_order = d.current_step)))
        FOR UPDATE SKIP LOCKED
    )
    SELECT array_agg(saga_id) INTO v_sagas FROM early;
    PERFORM saga_rewake(one) FROM unnest(v_sagas) one;
    RETURN coalesce(cardinality(v_sagas), 0);
END $$;
