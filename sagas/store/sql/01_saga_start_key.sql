-- What a start locks whose message may be there before its rows (decision 0019), and a claim that finds no row waits for.
CREATE OR REPLACE FUNCTION saga_start_key(p_saga uuid) RETURNS bigint
LANGUAGE sql IMMUTABLE AS $$ SELECT hashtextextended(p_saga::text, 19) $$;
