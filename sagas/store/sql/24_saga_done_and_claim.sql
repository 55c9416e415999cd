-- saga_done of what is likely the last step, and, if it ends the saga, the claim of another saga's step that the same message
-- brings (decision 0014), by the same process as p_other_attempt: one commit for both. Answers as saga_done; "other": what
-- saga_claim answers. Not claimed where another process holds that saga's row just now: two must not wait for each other.
CREATE OR REPLACE FUNCTION saga_done_and_claim(
    p_saga uuid, p_step text, p_attempt uuid, p_output jsonb, p_ride boolean, p_events jsonb,
    p_other uuid, p_other_step text, p_other_attempt uuid, p_node text, p_host text, p_pid integer,
    p_started double precision, p_margin double precision, p_incarnation uuid
) RETURNS jsonb
LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    v_answer jsonb := saga_done(p_saga, p_step, p_attempt, p_output, p_ride, p_margin, NULL, NULL, p_events);
    v_sync text;
    v_setting text;
BEGIN
    IF v_answer ->> 'next' <> 'end' THEN RETURN v_answer; END IF;
    PERFORM FROM saga_instances WHERE saga_id = p_other FOR UPDATE SKIP LOCKED;
    IF NOT FOUND THEN RETURN v_answer; END IF;
    v_sync := current_setting('synchronous_commit');
    v_answer := v_answer || jsonb_build_object('other', saga_claim(p_other, p_other_step, false, p_other_attempt, p_node,
        p_host, p_pid, p_started, p_margin, p_incarnation));
    -- A claim alone need not wait for the disk, and says so; the end must.
    v_setting := set_config('synchronous_commit', v_sync, true);
    RETURN v_answer;
END $$;
