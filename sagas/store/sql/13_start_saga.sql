-- For any language, inside its own transaction: SELECT start_saga('order', '{"sku": "A1"}', 'order-42').
CREATE OR REPLACE FUNCTION start_saga(
    saga_type text, payload jsonb DEFAULT '{}', idempotency_key text DEFAULT NULL, correlation_id text DEFAULT NULL,
    actor text DEFAULT NULL, saga_id uuid DEFAULT NULL
) RETURNS uuid
LANGUAGE sql VOLATILE AS $$
    SELECT (saga_start($1, $2, $3, $4, $5, $6, '{}', NULL, false) ->> 'saga_id')::uuid
$$;
