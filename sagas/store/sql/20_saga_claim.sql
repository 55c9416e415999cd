-- Claim one step (or its compensation, or its verify) for one attempt, by the rules of saga_claim_step.
-- Answers {"verdict": "granted", ...context} or {"verdict": why not, ...}. Outputs ride along while they are few; later they
-- are fetched when asked for, so that a step of a thousand-step saga costs what a step of a four-step saga costs.
CREATE OR REPLACE FUNCTION saga_claim(
    p_saga uuid, p_step text, p_undo boolean, p_attempt uuid, p_node text, p_host text, p_pid integer,
    p_started double precision, p_margin double precision, p_incarnation uuid DEFAULT NULL
) RETURNS jsonb
LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    s saga_instances;
    t saga_steps;
    v_state text;
    v_plain boolean;
    v_at integer;
    v_done integer;
    v_grant jsonb;
    v_outputs jsonb := '{}';
    v_claim jsonb;
BEGIN
    FOR v_look IN 1..2 LOOP
        -- Not the whole row: so many columns are dear to describe, and to hand on.
        SELECT state, live_claims = 0 AND paused_at IS NULL AND (quiet_at IS NULL OR quiet_at <= saga_now()), current_step,
            completions, jsonb_build_object('verdict', 'granted', 'saga_type', saga_type, 'version', version,
                'correlation_id', correlation_id, 'actor', actor, 'started_at', started_at, 'context', context,
                'shadow', shadow, 'first', completions = 0)
        INTO v_state, v_plain, v_at, v_done, v_grant FROM saga_instances WHERE saga_id = p_saga FOR UPDATE;
        EXIT WHEN FOUND;
        -- Not looked for below: it may be there by then, and would be nobody's to hold.
        IF v_look = 2 THEN RETURN jsonb_build_object('verdict', 'unknown_saga'); END IF;
        -- It may be written just now; if it is, until that is over.
        PERFORM pg_advisory_xact_lock_shared(saga_start_key(p_saga));
    END LOOP;
    -- The plain way: nobody holds the saga up.
    IF v_plain AND NOT p_undo AND v_state IN ('PENDING', 'IN_PROGRESS') THEN
        v_claim := saga_claim_forward(p_saga, v_at, ARRAY[p_step], false, p_attempt, p_node, p_host, p_pid, p_started,
            p_margin, p_incarnation);
    ELSIF v_plain AND p_undo AND v_state = 'COMPENSATING' THEN
        v_claim := saga_claim_undo(p_saga, ARRAY[p_step], p_attempt, p_node, p_host, p_pid, p_started, p_margin,
            p_incarnation);
    END IF;
    IF v_claim IS NULL THEN
        SELECT * INTO s FROM saga_instances WHERE saga_id = p_saga;
        SELECT * INTO t FROM saga_steps WHERE saga_id = p_saga AND step_name = p_step;
        IF NOT FOUND THEN RETURN jsonb_build_object('verdict', 'unknown_step'); END IF;
        v_claim := saga_claim_step(s, t,
            CASE WHEN p_undo THEN t.step_name = (saga_next_undo(p_saga)).step_name ELSE t.stage = s.current_step END,
            p_undo, p_attempt, p_node, p_host, p_pid, p_started, p_margin, p_incarnation);
        IF v_claim ->> 'verdict' <> 'granted' THEN RETURN v_claim; END IF;
    END IF;
    -- A lost undo is run again (R18).
    IF p_undo THEN PERFORM set_config('synchronous_commit', 'off', true); END IF;
    IF v_done > 16 THEN
        v_outputs := NULL;
    ELSIF v_done > 0 THEN
        SELECT coalesce(jsonb_object_agg(step_name, output_data), '{}') INTO v_outputs FROM saga_steps
        WHERE saga_id = p_saga AND output_data IS NOT NULL;
    END IF;
    RETURN v_claim || v_grant || jsonb_build_object('outputs', v_outputs);
END $$;
