"""One database, the real store, and a clock that stands still until a test moves it."""

import uuid
from collections.abc import Callable
from typing import Any

import psycopg2
from psycopg2 import extras

from sagas import RetryPolicy, Saga, SagaContext, SagaId
from sagas.settings import Settings
from sagas.store.database import connect_engine
from sagas.store.definitions import register
from sagas.store.repository import SagaRepository
from sagas.store.requests import Claimant, StartRequest
from sagas.store.store import Store
from tests.harness.servers import libpq_url
from tests.harness.wait import wait_for

STILL_CLOCK = """
CREATE TABLE test_clock (at timestamptz NOT NULL);
INSERT INTO test_clock VALUES (clock_timestamp());
CREATE OR REPLACE FUNCTION saga_now() RETURNS timestamptz LANGUAGE sql VOLATILE AS $$ SELECT at FROM test_clock $$;
-- A test that killed PostgreSQL has emptied the template's unlogged table, too.
INSERT INTO engine_epoch (since) SELECT saga_now() ON CONFLICT DO NOTHING;
"""
LEASE = 30.0
"""Seconds: the time limit of every step here, plus the store's margin of 10 s."""
TIME_LIMIT = 20.0
NODE = Claimant("test-node")
ONCE: dict[str, Any] = {"idempotent": False}
ASKED: dict[str, Any] = {"idempotent": False, "verify": True}
PIVOT: dict[str, Any] = {"pivot": True, "undo": False}


def nothing(ctx: SagaContext) -> None:
    """The body of every step here: these tests play the worker themselves."""


def build(saga_name: str, saga_timeout: float | None = None, version: int = 1, **steps: dict[str, Any]) -> Saga:
    """A saga of these steps; options are those of `Saga.step`, besides `undo=False`, `verify=True`, `attempts=n`."""
    saga = Saga(saga_name, timeout=saga_timeout, version=version)
    for name, given in steps.items():
        options = dict(given)
        has_undo, verify = options.pop("undo", True), options.pop("verify", False)
        policy = RetryPolicy(max_attempts=options.pop("attempts", 3))
        step = saga.step(name=name, timeout=TIME_LIMIT, retry=policy, **options)(nothing)
        if has_undo:
            step.compensation(retry=RetryPolicy(max_attempts=2))(nothing)
        if verify:
            step.verify(nothing)
    return saga


class Run:
    """One saga, moved by hand: each method is one call of a worker, of reconcile or of a client."""

    def __init__(self, lab: "Lab", saga_id: SagaId) -> None:
        self.lab = lab
        self.saga_id = saga_id

    def ask(self, step: str, undo: bool = False, attempt: uuid.UUID | None = None) -> dict[str, Any]:
        """The whole answer to one claim."""
        return self.lab.store.claim(self.saga_id, step, undo, attempt or uuid.uuid4(), NODE)

    def verdict(self, step: str, undo: bool = False, attempt: uuid.UUID | None = None) -> str:
        return str(self.ask(step, undo, attempt)["verdict"])

    def claim(self, step: str, undo: bool = False) -> uuid.UUID:
        """A granted claim's attempt id."""
        attempt = uuid.uuid4()
        assert self.verdict(step, undo, attempt) == "granted"
        return attempt

    def commit(self, step: str, attempt: uuid.UUID, outcome: str = "done", **more: Any) -> dict[str, Any]:
        if outcome not in ("done", "not_done"):
            more.setdefault("error", {"type": "Planned", "message": outcome})
        return self.lab.store.commit(self.saga_id, step, attempt, outcome, **more)

    def do(self, *steps: str, outcome: str = "done", undo: bool = False, **more: Any) -> dict[str, Any]:
        """Claim and commit each of them; the last answer."""
        answer: dict[str, Any] = {}
        for step in steps:
            answer = self.commit(step, self.claim(step, undo), outcome, undo=undo, **more)
            assert answer["verdict"] == "committed", answer
        return answer

    def undo(self, *steps: str, outcome: str = "done", **more: Any) -> dict[str, Any]:
        return self.do(*steps, outcome=outcome, undo=True, **more)

    def lose(self, step: str, undo: bool = False) -> uuid.UUID:
        """Claim and vanish: the lease runs out and reconcile writes it. The id of the lost attempt."""
        attempt = self.claim(step, undo)
        self.lab.advance(LEASE + 1)
        self.lab.reconcile()
        return attempt

    def cancel(self) -> str:
        return str(self.lab.store.cancel(self.saga_id, "the test says so", "tester")["verdict"])

    def row(self) -> dict[str, Any]:
        return self.lab.sql("SELECT * FROM saga_instances WHERE saga_id = %s", str(self.saga_id))[0]

    @property
    def state(self) -> str:
        return str(self.row()["state"])

    def step(self, name: str) -> dict[str, Any]:
        where = "SELECT * FROM saga_steps WHERE saga_id = %s AND step_name = %s"
        return self.lab.sql(where, str(self.saga_id), name)[0]

    def states(self) -> list[str]:
        where = "SELECT state FROM saga_steps WHERE saga_id = %s ORDER BY step_order"
        return [row["state"] for row in self.lab.sql(where, str(self.saga_id))]

    def events(self) -> list[dict[str, Any]]:
        return self.lab.sql("SELECT * FROM saga_events WHERE stream = %s ORDER BY event_id", f"saga:{self.saga_id}")

    def event_types(self) -> list[str]:
        return [event["event_type"] for event in self.events()]

    def dump(self) -> list[list[dict[str, Any]]]:
        """All that is stored about it, to be compared later."""
        steps = self.lab.sql("SELECT * FROM saga_steps WHERE saga_id = %s ORDER BY step_order", str(self.saga_id))
        return [[self.row()], steps, self.events()]


class Lab:
    """The store on a database of its own."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.engine = connect_engine(url)
        self.store = Store(self.engine)
        self.repository = SagaRepository(self.store)
        self.closing: list[Callable[[], None]] = [self.engine.dispose]
        self._connection = self.connect()
        self.sql(STILL_CLOCK)

    def close(self) -> None:
        self._connection.close()
        for close in self.closing:
            close()

    def reopen(self) -> None:
        """After the server went away."""
        self._connection.close()
        self.engine.dispose()
        self._connection = self.connect()

    def connect(self, autocommit: bool = True) -> Any:
        connection = psycopg2.connect(libpq_url(self.url), cursor_factory=extras.RealDictCursor)
        extras.register_uuid(conn_or_curs=connection)
        connection.autocommit = autocommit
        return connection

    def cursor(self) -> Any:
        """A cursor of the test's own connection, which commits each statement."""
        return self._connection.cursor()

    def sql(self, statement: str, *values: object) -> list[dict[str, Any]]:
        with self.cursor() as cursor:
            cursor.execute(statement, values or None)
            return [dict(row) for row in cursor.fetchall()] if cursor.description else []

    def value(self, statement: str, *values: object) -> Any:
        (row,) = self.sql(statement, *values)
        return next(iter(row.values()))

    def advance(self, seconds: float) -> None:
        """Move the engine's clock forward."""
        self.sql("UPDATE test_clock SET at = at + make_interval(secs => %s)", seconds)

    def now(self) -> Any:
        return self.value("SELECT saga_now()")

    def define(self, name: str, timeout: float | None = None, version: int = 1, **steps: Any) -> Saga:
        saga = build(name, timeout, version, **steps)
        register(self.engine, [saga], Settings())
        return saga

    def start(self, name: str, payload: dict[str, Any] | None = None, **fields: Any) -> Run:
        answer = self.store.start(StartRequest(name, payload or {}, **fields))
        return Run(self, SagaId(answer["saga_id"]))

    def run(self, timeout: float | None = None, **steps: Any) -> Run:
        """A started saga of these steps."""
        name = f"saga{uuid.uuid4().hex[:8]}"
        self.define(name, timeout, **steps)
        return self.start(name)

    def reconcile(self) -> list[dict[str, Any]]:
        answer = self.store.reconcile(200)
        assert answer is not None
        return answer.found


def wait_until_blocked(lab: Lab, pid: int) -> None:
    """Until that backend is seen waiting for a lock."""
    seen: Callable[[], Any] = lambda: lab.value("SELECT cardinality(pg_blocking_pids(%s)) > 0", pid)  # noqa: E731
    wait_for(seen, 10, f"backend {pid} waits for a lock")
