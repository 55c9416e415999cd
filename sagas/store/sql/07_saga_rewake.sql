-- wake_at is the least of everything the saga waits for (R6): recomputed by whoever brought any of it forward. What is put off
-- is found out by the look that comes too early, and so is it that a claim has ended (`claimed`).
CREATE OR REPLACE FUNCTION saga_rewake(p_saga uuid) RETURNS void
LANGUAGE sql VOLATILE AS $$
    UPDATE saga_instances i SET claimed = i.live_claims > 0, wake_at = CASE
        -- Paused: nothing but the end of a live claim is waited for.
        WHEN i.paused_at IS NOT NULL THEN coalesce((SELECT min(t.lease_until) FROM saga_steps t
            WHERE t.saga_id = i.saga_id AND t.lease_until IS NOT NULL), 'infinity')
        ELSE coalesce(least(
        CASE WHEN i.state IN ('PENDING', 'IN_PROGRESS') AND NOT i.pivot_open THEN i.deadline END,
        CASE WHEN i.state IN ('PENDING', 'IN_PROGRESS') THEN
            (SELECT min(coalesce(t.lease_until, greatest(t.look_at, t.not_before))) FROM saga_steps t
             WHERE t.saga_id = i.saga_id AND t.step_order = i.current_step)
        WHEN i.live_claims > 0 THEN
            (SELECT min(coalesce(t.lease_until, t.look_at)) FROM saga_steps t
             WHERE t.saga_id = i.saga_id AND (t.lease_until IS NOT NULL OR t.state = 'WAITING'))
        ELSE (SELECT greatest(t.look_at, t.not_before, i.quiet_at) FROM saga_next_undo(i.saga_id) t)
        END), saga_now()) END
    WHERE i.saga_id = p_saga AND i.state IN ('PENDING', 'IN_PROGRESS', 'COMPENSATING')
$$;
