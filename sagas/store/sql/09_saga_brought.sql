-- Whether the message that this saga waits for is another one's first, which nobody has taken yet (decision 0014): that one is
-- watched for both of them (R22), and is sent again with both.
CREATE OR REPLACE FUNCTION saga_brought(p_saga uuid) RETURNS boolean
LANGUAGE sql STABLE AS $$
    SELECT EXISTS (
        SELECT FROM saga_instances s
        JOIN saga_steps t ON t.saga_id = s.saga_id AND t.step_order = 0
        JOIN saga_instances b ON b.saga_id = s.brought_by
        JOIN saga_steps f ON f.saga_id = b.saga_id AND f.step_order = 0
        WHERE s.saga_id = p_saga AND s.state = 'PENDING' AND t.state = 'PENDING' AND t.not_before IS NULL
            AND b.state = 'PENDING' AND f.state = 'PENDING' AND f.not_before IS NULL
            AND b.paused_at IS NULL AND f.queue = t.queue)
$$;
