-- Claim one step (or its compensation, or its verify) for one attempt, by the rules of saga_claim_step.
-- Answers {"verdict": "granted", ...context} or {"verdict": why not, ...}.
CREATE OR REPLACE FUNCTION saga_claim(
    p_saga uuid, p_step text, p_undo boolean, p_attempt uuid, p_node text, p_host text, p_pid integer,
    p_started double precision, p_margin double precision, p_incarnation uuid DEFAULT NULL
) RETURNS jsonb
LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    s saga_instances;
    t saga_steps;
    v_claim jsonb;
BEGIN
    SELECT * INTO s FROM saga_instances WHERE saga_id = p_saga FOR UPDATE;
    IF NOT FOUND THEN RETURN jsonb_build_object('verdict', 'unknown_saga'); END IF;
    -- The plain way: nobody holds the saga up.
    IF s.live_claims = 0 AND s.paused_at IS NULL AND (s.quiet_at IS NULL OR s.quiet_at <= saga_now()) THEN
        IF NOT p_undo AND s.state IN ('PENDING', 'IN_PROGRESS') THEN
            v_claim := saga_claim_forward(p_saga, s.current_step, ARRAY[p_step], false, p_attempt, p_node, p_host, p_pid,
                p_started, p_margin, p_incarnation);
        ELSIF p_undo AND s.state = 'COMPENSATING' THEN
            v_claim := saga_claim_undo(p_saga, ARRAY[p_step], p_attempt, p_node, p_host, p_pid, p_started, p_margin,
                p_incarnation);
        END IF;
    END IF;
    IF v_claim IS NULL THEN
        SELECT * INTO t FROM saga_steps WHERE saga_id = p_saga AND step_name = p_step;
        IF NOT FOUND THEN RETURN jsonb_build_object('verdict', 'unknown_step'); END IF;
        v_claim := saga_claim_step(s, t,
            CASE WHEN p_undo THEN t.step_name = (saga_next_undo(p_saga)).step_name ELSE t.stage = s.current_step END,
            p_undo, p_attempt, p_node, p_host, p_pid, p_started, p_margin, p_incarnation);
        IF v_claim ->> 'verdict' <> 'granted' THEN RETURN v_claim; END IF;
    END IF;
    -- A lost undo is run again (R18).
    IF p_undo THEN PERFORM set_config('synchronous_commit', 'off', true); END IF;
    RETURN v_claim || saga_grant(s);
END $$;
