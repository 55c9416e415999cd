-- A Celery node says that it is alive; nodes that said nothing for an hour are forgotten. Answers how long ago (seconds)
-- reconcile ran: all nodes see by it that ticks do not come through, whatever holds them up.
CREATE OR REPLACE FUNCTION saga_node_beat(p_incarnation uuid, p_node text, p_host text, p_pid integer, p_queues text[])
RETURNS double precision
LANGUAGE sql VOLATILE AS $$
    DELETE FROM celery_nodes WHERE last_seen < saga_now() - interval '1 hour';
    INSERT INTO celery_nodes (incarnation, node, host, pid, queues, started_at, last_seen)
    VALUES (p_incarnation, p_node, p_host, p_pid, p_queues, saga_now(), saga_now())
    ON CONFLICT (incarnation) DO UPDATE SET last_seen = excluded.last_seen, queues = excluded.queues;
    SELECT extract(epoch FROM saga_now() - reconciled_at)::double precision FROM engine_state
$$;
