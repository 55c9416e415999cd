-- A person stops a saga where it is, or lets it go on. What is running ends by itself; nothing new is begun.
-- Answers {"verdict": paused | resumed | already | terminal | unknown_saga, "publish": ...}.
CREATE OR REPLACE FUNCTION saga_pause(p_saga uuid, p_pause boolean, p_reason text, p_actor text) RETURNS jsonb
LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    s saga_instances;
BEGIN
    SELECT * INTO s FROM saga_instances WHERE saga_id = p_saga FOR UPDATE;
    IF NOT FOUND THEN RETURN '{"verdict": "unknown_saga"}'; END IF;
    IF s.state IN ('COMPLETED', 'COMPENSATED', 'CANCELLED', 'FAILED') THEN RETURN '{"verdict": "terminal"}'; END IF;
    IF p_pause = (s.paused_at IS NOT NULL) THEN RETURN '{"verdict": "already"}'; END IF;
    UPDATE saga_instances SET paused_at = CASE WHEN p_pause THEN saga_now() END, pause_reason = p_reason
    WHERE saga_id = p_saga;
    -- Whatever message was on its way is void by now: after a pause the current step is published anew.
    UPDATE saga_steps SET published_at = NULL, republished = 0, look_at = saga_now()
    WHERE saga_id = p_saga AND look_at IS NOT NULL AND NOT p_pause;
    PERFORM saga_rewake(p_saga);
    PERFORM saga_note(s, CASE WHEN p_pause THEN 'SagaPaused' ELSE 'SagaResumed' END, NULL,
        jsonb_build_object('reason', p_reason, 'by', p_actor));
    RETURN jsonb_build_object('verdict', CASE WHEN p_pause THEN 'paused' ELSE 'resumed' END,
        'publish', CASE WHEN NOT p_pause THEN saga_look(p_saga, false) END);
END $$;
