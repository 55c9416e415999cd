-- The clock of record. Tests move it by replacing this function; nothing else reads a clock.
CREATE OR REPLACE FUNCTION saga_now() RETURNS timestamptz
LANGUAGE sql VOLATILE AS $$ SELECT clock_timestamp() $$;
