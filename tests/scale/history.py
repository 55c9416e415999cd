"""Finished sagas by the million, written by SQL: what a table looks like after years."""

from typing import Any

CHUNK = 50_000
STEPS = 4

# As the engine leaves them; one in ten has gone back. No foreign key is checked: the rows are made together.
FILL = """
WITH made AS (
    INSERT INTO saga_instances (saga_id, saga_type, version, state, correlation_id, actor, idempotency_key, context,
        stages, current_step, completions, started_at, completed_at, end_as)
    SELECT gen_random_uuid(), 'bulk', 1, CASE WHEN n %% 10 = 0 THEN 'COMPENSATED' ELSE 'COMPLETED' END, 'history-' || n,
        'history', 'history-' || n, '{"payload": {"sku": "A1"}, "metadata": {}}', %(steps)s, %(steps)s, %(steps)s,
        clock_timestamp() - interval '2 days', clock_timestamp() - interval '1 day',
        CASE WHEN n %% 10 = 0 THEN 'COMPENSATED' END
    FROM generate_series(%(first)s, %(last)s) n RETURNING saga_id, state
), steps AS (
    INSERT INTO saga_steps (saga_id, step_name, step_order, stage, state, has_compensation, attempt, attempt_id,
        claimed_by, claim_host, claim_pid, claim_started, undo_rank, output_data, started_at, completed_at)
    SELECT saga_id, 'step' || i, i, i, state, true, 1, gen_random_uuid(), 'steps@host', 'boot/host', 4711, 1,
        CASE state WHEN 'COMPLETED' THEN i + 1 END, '{"ok": true}', clock_timestamp(), clock_timestamp()
    FROM made, generate_series(0, %(steps)s - 1) i
)
INSERT INTO saga_events (stream, saga_id, event_type, payload, occurred_at, published_at)
SELECT 'saga:' || saga_id, saga_id, t, '{}', clock_timestamp(), clock_timestamp()
FROM made, unnest(ARRAY['SagaStarted', 'SagaCompleted']) t
"""


def fill(connection: Any, sagas: int) -> None:
    """`sagas` finished ones of four steps and two events, on a psycopg2 connection in autocommit; then ANALYZE."""
    with connection.cursor() as cursor:
        cursor.execute("SET session_replication_role = replica")
        for first in range(1, sagas + 1, CHUNK):
            cursor.execute(FILL, {"first": first, "last": min(first + CHUNK - 1, sagas), "steps": STEPS})
        cursor.execute("SET session_replication_role = origin")
        for table in ("saga_instances", "saga_steps", "saga_events"):
            cursor.execute(f"VACUUM ANALYZE {table}")
