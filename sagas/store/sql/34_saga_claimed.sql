-- The steps that are claimed. Found from the sagas that may have a claim (idx_saga_instances_live), one by one: OFFSET 0 keeps the
-- planner from beginning at the steps, which it does where there are no statistics yet, and reads all of them each second.
CREATE OR REPLACE FUNCTION saga_claimed() RETURNS SETOF saga_steps
LANGUAGE sql STABLE AS $$
    SELECT t.* FROM saga_instances s
    CROSS JOIN LATERAL (SELECT * FROM saga_steps WHERE saga_id = s.saga_id AND lease_until IS NOT NULL OFFSET 0) t
    WHERE s.claimed AND s.wake_at IS NOT NULL AND s.live_claims > 0
$$;
