-- Whether this saga is brought by another one's message (saga_packed).
CREATE OR REPLACE FUNCTION saga_brought(p_saga uuid) RETURNS boolean
LANGUAGE sql STABLE AS $$
    SELECT EXISTS (
        SELECT FROM saga_instances s
        JOIN saga_steps t ON t.saga_id = s.saga_id AND t.step_order = 0
        JOIN saga_instances b ON b.saga_id = s.brought_by
        JOIN saga_steps f ON f.saga_id = b.saga_id AND f.step_order = 0
        WHERE s.saga_id = p_saga AND saga_packed(s, t, b, f))
$$;
