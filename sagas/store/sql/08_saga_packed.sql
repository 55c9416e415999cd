-- Whether the message that this saga waits for is another one's first, which nobody has taken yet (decision 0014): that one is
-- watched for both of them (R22), and is sent again with both. Each with its first step; b and f are null where there is none.
-- PostgreSQL writes this into the query that asks: no row costs a call of its own.
CREATE OR REPLACE FUNCTION saga_packed(s saga_instances, t saga_steps, b saga_instances, f saga_steps) RETURNS boolean
LANGUAGE sql IMMUTABLE AS $$
    SELECT coalesce(s.state = 'PENDING' AND t.state = 'PENDING' AND t.not_before IS NULL AND s.brought_by = b.saga_id
        AND b.state = 'PENDING' AND f.state = 'PENDING' AND f.not_before IS NULL
        AND b.paused_at IS NULL AND f.queue = t.queue, false)
$$;
