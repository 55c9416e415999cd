-- The effect to be undone next: unknown and failed ones first, then the latest by completion (P6, R18).
CREATE OR REPLACE FUNCTION saga_next_undo(p_saga uuid) RETURNS saga_steps
LANGUAGE plpgsql STABLE AS $$
DECLARE
    u saga_steps;
BEGIN
    SELECT * INTO u FROM saga_steps WHERE saga_id = p_saga AND undo_rank IS NOT NULL ORDER BY undo_rank DESC LIMIT 1;
    RETURN u;
END $$;
