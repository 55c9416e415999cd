-- A queue may name a field of the payload: provider.{provider_host}.
CREATE OR REPLACE FUNCTION saga_queue(p_queue text, p_payload jsonb) RETURNS text
LANGUAGE plpgsql IMMUTABLE AS $$
DECLARE
    v_field text;
BEGIN
    -- Most do not: no regular expression for each step that is started.
    IF strpos(p_queue, '{') = 0 THEN RETURN p_queue; END IF;
    v_field := substring(p_queue FROM '\{(\w+)\}');
    IF v_field IS NULL THEN RETURN p_queue; END IF;
    IF p_payload ->> v_field IS NULL THEN
        RAISE EXCEPTION 'payload lacks %, which names the queue %', v_field, p_queue USING ERRCODE = 'SG002';
    END IF;
    RETURN replace(p_queue, '{' || v_field || '}', p_payload ->> v_field);
END $$;
