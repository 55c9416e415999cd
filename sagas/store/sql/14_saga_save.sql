-- Write what moves in a saga's row as it was changed in memory, once for all that one statement does to it. p_was: the
-- state that it had, which its lock has kept (the edges are those of the callers). A claim that is handed on from step to
-- step keeps the earliest end of its leases: reconcile looks then, in vain, and puts it right; till then the row is updated
-- in place, because nothing of it that an index holds has changed.
CREATE OR REPLACE FUNCTION saga_save(s saga_instances, p_was text) RETURNS boolean
LANGUAGE plpgsql VOLATILE AS $$
BEGIN
    UPDATE saga_instances SET state = s.state, current_step = s.current_step, live_claims = s.live_claims,
        completions = s.completions, pivot_open = s.pivot_open, pivot_passed = s.pivot_passed,
        wake_at = CASE WHEN s.live_claims > 0 AND live_claims = s.live_claims THEN least(wake_at, s.wake_at)
            ELSE s.wake_at END,
        completed_at = s.completed_at
    WHERE saga_id = s.saga_id AND state = p_was;
    RETURN FOUND;
END $$;
