"""The oracle outside the engine: what steps really did, and locks on which tests and steps meet.

Effects live on a PostgreSQL server of their own, written by steps over their own connection in autocommit, so that no
rollback, no fence and no bug of the engine can change what is told here, and a test may crash the engine's server while
a step holds still on a lock. Steps find it by `HODEI_TEST_EFFECTS_URL`.
"""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import psycopg2
from psycopg2 import sql

from tests.harness.database import Query
from tests.harness.servers import libpq_url
from tests.harness.wait import wait_for

URL_VARIABLE = "HODEI_TEST_EFFECTS_URL"
TABLE = """
CREATE TABLE IF NOT EXISTS effects (
    id bigserial PRIMARY KEY,
    at timestamptz NOT NULL DEFAULT clock_timestamp(),
    kind text NOT NULL, key text, saga_id text, step text, attempt int, pid int NOT NULL, detail jsonb
)
"""
INSERT = """
INSERT INTO effects (kind, key, saga_id, step, attempt, pid, detail) VALUES (%s, %s, %s, %s, %s, %s, %s)
"""
LOCK = "hashtextextended(%s, 0)"
BLOCKED = f"""
SELECT substr(a.application_name, 5)::int AS pid
FROM pg_locks l JOIN pg_stat_activity a ON a.pid = l.pid JOIN pg_database d ON d.oid = l.database
WHERE l.locktype = 'advisory' AND NOT l.granted AND d.datname = current_database() AND a.application_name LIKE 'pid:%%'
  AND ((l.classid::bigint << 32) | l.objid::bigint) = {LOCK}
ORDER BY l.waitstart NULLS LAST
"""


# --- what steps call ---------------------------------------------------------------------------------------------


def record(
    kind: str,
    *,
    key: str | None = None,
    saga_id: object = None,
    step: str | None = None,
    attempt: int | None = None,
    **detail: object,
) -> None:
    """Append one row; `kind` is `begin`, `effect`, `undo_begin`, `undo`, `verify` or a test's own word."""
    owner = None if saga_id is None else str(saga_id)
    _execute(INSERT, (kind, key, owner, step, attempt, os.getpid(), json.dumps(detail) if detail else None))


def wait_for_lock(name: str) -> None:
    """Block until no test holds the lock `name`; any number of steps pass together."""
    _execute(f"SELECT pg_advisory_xact_lock_shared({LOCK})", (name,))


def _execute(statement: str, values: tuple[object, ...]) -> None:
    # A connection for each call: safe after a fork and in threads. Its name tells the test which process is waiting.
    connection = psycopg2.connect(libpq_url(os.environ[URL_VARIABLE]), application_name=f"pid:{os.getpid()}")
    try:
        connection.autocommit = True
        with connection.cursor() as cursor:
            cursor.execute(statement, values)
    finally:
        connection.close()


# --- what tests call ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Effect:
    """One row of the log."""

    id: int
    at: datetime
    kind: str
    key: str | None
    saga_id: str | None
    step: str | None
    attempt: int | None
    pid: int
    detail: dict[str, Any] | None


class Effects:
    """Reads the log of one test, and holds its locks. Make the table with `prepare`."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.query = Query(url)

    def prepare(self) -> None:
        """Make the table, empty."""
        self.query(TABLE)
        self.query("TRUNCATE effects RESTART IDENTITY")

    def find(
        self, kind: str | None = None, *, saga_id: object = None, step: str | None = None, key: str | None = None
    ) -> list[Effect]:
        """The rows that match everything that is given, in the order of writing."""
        wanted = {"kind": kind, "saga_id": None if saga_id is None else str(saga_id), "step": step, "key": key}
        given = {name: value for name, value in wanted.items() if value is not None}
        where = sql.SQL(" AND ").join([sql.SQL("true"), *(sql.SQL("{} = %s").format(sql.Identifier(n)) for n in given)])
        columns = sql.SQL("id, at, kind, key, saga_id, step, attempt, pid, detail")
        statement = sql.SQL("SELECT {} FROM effects WHERE {} ORDER BY id").format(columns, where)
        return [Effect(**row) for row in self.query(statement, *given.values())]

    def count(self, kind: str | None = None, **wanted: Any) -> int:
        """How many rows match; the same arguments as `find`."""
        return len(self.find(kind, **wanted))

    def story(self, saga_id: object = None, kinds: tuple[str, ...] = ("effect", "undo")) -> list[str]:
        """The order of what happened, as texts like `effect one`, `undo two`."""
        return [f"{row.kind} {row.step}" for row in self.find(saga_id=saga_id) if row.kind in kinds]

    def standing(self, saga_id: object = None) -> list[str]:
        """Steps with an effect after which no undo came, in order of their effects: what is left in the world."""
        left: dict[str, None] = {}
        for row in self.find(saga_id=saga_id):
            if row.kind == "effect" and row.step:
                left[row.step] = None
            elif row.kind == "undo" and row.step:
                left.pop(row.step, None)
        return list(left)

    def wait(self, kind: str, count: int = 1, timeout: float = 10.0, **wanted: Any) -> list[Effect]:
        """Wait until at least `count` rows match, and return them."""

        def enough() -> list[Effect]:
            rows = self.find(kind, **wanted)
            return rows if len(rows) >= count else []

        return wait_for(enough, timeout, lambda: f"{count} x {kind} {wanted}; the log has {self.find()}")

    @contextmanager
    def held_lock(self, name: str) -> Iterator[None]:
        """Hold the lock `name`, so that every step that asks for it blocks; let go at the end."""
        connection = self.query.connect()
        try:
            with connection.cursor() as cursor:
                cursor.execute(f"SELECT pg_advisory_lock({LOCK})", (name,))
            yield
        finally:
            connection.close()

    def blocked(self, name: str) -> list[int]:
        """Pids of the processes (not backends) that wait for the lock now, longest first."""
        return [row["pid"] for row in self.query(BLOCKED, name)]

    def wait_until_blocked(self, name: str, count: int = 1, timeout: float = 15.0) -> list[int]:
        """Wait until `count` processes are blocked on the lock; their pids, to be killed for instance."""

        def enough() -> list[int]:
            pids = self.blocked(name)
            return pids if len(pids) >= count else []

        return wait_for(enough, timeout, lambda: f"{count} blocked on {name!r}; the log has {self.find()}")
