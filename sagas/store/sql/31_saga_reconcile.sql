-- Whatever should have moved by now, at most p_limit sagas of it; null if another reconcile holds the lock (R21).
-- Answers {"looked_at": how many, "found": [...], "backlogs": {queue: {"waiting", "depth", "age"}}}; found: what saga_look
-- says of each that has something, or {"saga_id", "trouble"}; age: seconds since the queue was counted.
-- Reads idx_saga_instances_wake only: its cost does not grow with history.
CREATE OR REPLACE FUNCTION saga_reconcile(p_limit integer, p_margin double precision) RETURNS jsonb
LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    v_now timestamptz := saga_now();
    v_saga uuid;
    v_one jsonb;
    v_all jsonb := '[]';
    v_count integer := 0;
BEGIN
    IF NOT pg_try_advisory_xact_lock(hashtext('saga_reconcile'), hashtext(current_schema())) THEN RETURN NULL; END IF;
    PERFORM saga_new_epoch(p_margin);
    FOR v_saga IN
        SELECT saga_id FROM saga_instances
        WHERE state IN ('PENDING', 'IN_PROGRESS', 'COMPENSATING') AND wake_at <= v_now
        ORDER BY wake_at LIMIT p_limit FOR UPDATE SKIP LOCKED
    LOOP
        v_count := v_count + 1;
        BEGIN
            v_one := saga_look(v_saga, true);
            IF v_one IS NOT NULL THEN v_all := v_all || v_one; END IF;
        EXCEPTION WHEN OTHERS THEN
            -- One broken saga must not hold up the others, tick after tick: it is looked at again later, and told of.
            UPDATE saga_instances SET wake_at = v_now + interval '30 s' WHERE saga_id = v_saga;
            v_all := v_all || jsonb_build_object('saga_id', v_saga, 'trouble', SQLERRM);
        END;
    END LOOP;
    RETURN jsonb_build_object('looked_at', v_count, 'found', v_all, 'backlogs', (
        SELECT coalesce(jsonb_object_agg(queue, jsonb_build_object('waiting', waiting, 'needed', needed, 'depth', depth,
            'age', extract(epoch FROM v_now - counted_at))), '{}') FROM saga_backlogs));
END $$;
