"""What one tick costs PostgreSQL, as it counts itself: buffers by EXPLAIN, and what was read by its statistics."""

import json
import time
from collections.abc import Callable
from typing import Any

import psycopg2
import sqlalchemy as sa
from psycopg2 import extensions

from sagas.runtime.engine import Engine
from tests.harness.servers import libpq_url

Statement = tuple[str, tuple[Any, ...]]


class Recording(extensions.cursor):
    """Remembers every statement with its parameters."""

    heard: list[Statement] = []  # noqa: RUF012 - one list for the one engine of the test

    def execute(self, query: Any, vars: Any = None) -> Any:
        self.heard.append((str(query), tuple(vars or ())))
        return super().execute(query, vars)


def watched(engine: Engine) -> Engine:
    """An engine of one connection whose statements are remembered in `Recording.heard`."""
    url = engine.settings.require_database()
    engine.__dict__["sql"] = sa.create_engine(
        url, pool_size=1, max_overflow=0, connect_args={"cursor_factory": Recording}
    )
    return engine


def statements_of(act: Callable[[], object]) -> list[Statement]:
    """The different statements that `act` sends, in order; those of SQLAlchemy itself left out."""
    Recording.heard.clear()
    act()
    ours = [one for one in Recording.heard if "saga_" in one[0]]
    return [one for place, one in enumerate(ours) if one[0] not in [earlier[0] for earlier in ours[:place]]]


def buffers(url: str, statements: list[Statement]) -> dict[str, int]:
    """Shared buffers that each statement touches, nested statements included; everything is rolled back."""
    connection = psycopg2.connect(libpq_url(url))
    try:
        with connection.cursor() as cursor:
            found: dict[str, int] = {}
            for sql, values in statements:
                # Thrice: the first ones fill the caches of catalog and plans.
                counts = [_explained(cursor, sql, values) for _ in range(3)]
                found[name_of(sql)] = min(counts)
                connection.rollback()
            return found
    finally:
        connection.close()


def _explained(cursor: Any, sql: str, values: tuple[Any, ...]) -> int:
    cursor.execute("SAVEPOINT before")
    cursor.execute(f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {sql}", values)
    (answer,) = cursor.fetchone()
    plan = (answer if isinstance(answer, list) else json.loads(answer))[0]["Plan"]
    cursor.execute("ROLLBACK TO SAVEPOINT before")
    return int(plan["Shared Hit Blocks"]) + int(plan["Shared Read Blocks"])


def name_of(sql: str) -> str:
    """The function that is called, or the table that is read."""
    return next(word.strip("(),") for word in sql.replace("(", " ").split() if word.startswith("saga_"))


READ = """
SELECT relname AS name, seq_scan AS scans, seq_tup_read AS tuples FROM pg_stat_user_tables
UNION ALL SELECT indexrelname, idx_scan, idx_tup_read FROM pg_stat_user_indexes
"""


def reads(engine: Engine, act: Callable[[], object]) -> dict[str, tuple[int, int]]:
    """What `act` reads on the engine's connection: (scans, tuples) of each table (by sequential scan) and index."""
    # What other backends have counted they tell late: as they end, or a second later.
    earlier, before = None, _counted(engine)
    while earlier != before:
        time.sleep(1.2)
        earlier, before = before, _counted(engine)
    act()
    after = _counted(engine)
    diff = {name: (after[name][0] - before[name][0], after[name][1] - before[name][1]) for name in after}
    return {name: counts for name, counts in diff.items() if counts[0] and name.startswith(("saga_", "idx_", "uq_"))}


def _counted(engine: Engine) -> dict[str, tuple[int, int]]:
    for statement in ("SELECT pg_stat_force_next_flush()", "SELECT pg_stat_clear_snapshot()"):
        with engine.sql.begin() as connection:
            connection.execute(sa.text(statement))
    with engine.sql.begin() as connection:
        return {row.name: (row.scans, row.tuples) for row in connection.execute(sa.text(READ))}
