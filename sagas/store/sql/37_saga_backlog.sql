-- So many sagas wait in this queue, need so many messages, and so many are in it, counted just now. Nobody waits any more:
-- forgotten. Needs no disk of its own: whoever is put off because of it commits after it.
CREATE OR REPLACE FUNCTION saga_backlog(p_queue text, p_waiting integer, p_needed integer, p_depth integer) RETURNS void
LANGUAGE plpgsql VOLATILE AS $$
BEGIN
    PERFORM set_config('synchronous_commit', 'off', true);
    IF p_waiting = 0 THEN
        DELETE FROM saga_backlogs WHERE queue = p_queue;
    ELSE
        INSERT INTO saga_backlogs (queue, waiting, needed, depth, counted_at)
        VALUES (p_queue, p_waiting, p_needed, p_depth, saga_now())
        ON CONFLICT (queue) DO UPDATE
            SET waiting = excluded.waiting, needed = excluded.needed, depth = excluded.depth,
                counted_at = excluded.counted_at;
    END IF;
END $$;
