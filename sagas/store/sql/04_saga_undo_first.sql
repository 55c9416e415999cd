-- The step whose effect is to be undone next: unknown and failed ones first, then the latest by completion (P6, R18).
CREATE OR REPLACE FUNCTION saga_undo_first(p_saga uuid) RETURNS uuid
LANGUAGE plpgsql STABLE AS $$
BEGIN
    RETURN (SELECT step_id FROM saga_steps WHERE saga_id = p_saga AND undo_rank IS NOT NULL ORDER BY undo_rank DESC LIMIT 1);
END $$;
