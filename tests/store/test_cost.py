"""What a step costs, as counts: round trips, transactions, synchronous commits (design 6, budgets)."""

import uuid
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any, ClassVar

import psycopg2.extensions
import pytest
import sqlalchemy as sa

from sagas import RetryPolicy, Saga, SagaContext, SagaId
from sagas.registry import Registry
from sagas.runtime.ended import Ended
from sagas.runtime.handover import Granted
from sagas.runtime.runner import Runner
from sagas.settings import Settings
from sagas.store.definitions import register
from sagas.store.requests import StartRequest
from sagas.store.store import Store
from tests.store.lab import NODE, ONCE, Lab, Run, build


class Counted(psycopg2.extensions.connection):
    """Every message that waits for an answer of the server."""

    trips: ClassVar[list[str]] = []

    def cursor(self, *args: Any, **more: Any) -> Any:
        more.setdefault("cursor_factory", CountedCursor)
        return super().cursor(*args, **more)

    def _ends(self, word: str) -> None:
        if self.get_transaction_status() != psycopg2.extensions.TRANSACTION_STATUS_IDLE:
            self.trips.append(word)

    def commit(self) -> None:
        self._ends("COMMIT")
        super().commit()

    def rollback(self) -> None:
        self._ends("ROLLBACK")
        super().rollback()


class CountedCursor(psycopg2.extensions.cursor):
    def execute(self, query: Any, values: Any = None) -> None:
        connection: Any = self.connection
        if not connection.autocommit and connection.get_transaction_status() == 0:
            Counted.trips.append("BEGIN")
        Counted.trips.append(str(query).split("(")[0])
        super().execute(query, values)


@pytest.fixture
def trips() -> Iterator[list[str]]:
    Counted.trips.clear()
    yield Counted.trips


def runner(lab: Lab, saga: Saga) -> tuple[Runner, SagaId]:
    """A warm runner on counted connections, and a saga of that definition."""
    engine = sa.create_engine(
        lab.url, connect_args={"connection_factory": Counted}, pool_size=1, max_overflow=0, pool_pre_ping=False
    )
    store = Store(engine)
    saga_id = SagaId(store.start(StartRequest(saga.name, {}))["saga_id"])
    lab.closing.append(engine.dispose)
    return Runner(store, Registry([saga]), {}, Settings()), saga_id


def test_an_idempotent_step_costs_two_round_trips(lab: Lab, trips: list[str]) -> None:
    """Budget: claim and commit, each one statement in autocommit."""
    saga = lab.define("order", a={}, b={})
    run, saga_id = runner(lab, saga)
    run.run(saga_id, "a", undo=False, by=NODE)
    trips.clear()
    run.run(saga_id, "b", undo=False, by=NODE)

    assert trips == ["SELECT saga_claim", "SELECT saga_done"]


def test_with_continuation_a_step_costs_one_round_trip(lab: Lab, trips: list[str]) -> None:
    """Budget: the commit of a step claims the next one; the first step of a message has a claim besides."""
    saga = lab.define("order", a={}, b={}, c={})
    run, saga_id = runner(lab, saga)
    names = iter([("b",), ("c",), ()])
    trips.clear()
    report = run.run(saga_id, "a", undo=False, by=NODE, may_go_on=lambda saga_type, version: next(names))
    assert trips == ["SELECT saga_claim", "SELECT saga_done"]
    for step in ("b", "c"):
        trips.clear()
        assert report.then and report.then.step == step
        report = run.run(
            saga_id, step, undo=False, by=NODE, granted=report.then, may_go_on=lambda saga_type, version: next(names)
        )
        assert len(trips) == 1
    assert (report.then, report.next) == (None, "end")


def test_side_by_side_a_step_of_several_sagas_costs_one_round_trip(lab: Lab, trips: list[str]) -> None:
    """Decision 0015: one commit, and one claim, for all of them."""
    saga = lab.define("order", a={}, b={})
    run, saga_id = runner(lab, saga)
    ids = [saga_id, *(SagaId(run._store.start(StartRequest("order", {}))["saga_id"]) for _ in range(4))]
    trips.clear()
    granted: Sequence[Granted | None] = run.claim_all(ids, 1, "a", NODE, 1.0)
    assert trips == ["SELECT saga_claim_many"]
    for step, then in (("a", ("b",)), ("b", ())):
        held: list[Ended] = []
        trips.clear()
        for one, claim in zip(ids, granted, strict=True):
            report = run.run(
                one,
                step,
                undo=False,
                by=NODE,
                granted=claim,
                may_go_on=lambda saga_type, version, then=then: then,  # type: ignore[misc]
                hold=held.append,
            )
            assert report.verdict == "held"
        reports = run.commit_all(held)
        assert trips == ["SELECT saga_commit_many"]
        granted = [report and report.then for report in reports]
    assert [report and report.next for report in reports] == ["end"] * 5


def test_nothing_is_sent_besides(lab: Lab, trips: list[str]) -> None:
    """As the server counts: what the driver sends by itself (a SET, say) is a transaction and a round trip, too."""
    steps: dict[str, Any] = {f"s{number:02}": {} for number in range(40)}
    run, _ = runner(lab, lab.define("order", **steps))
    store, sagas = run._store, 5
    ids = [SagaId(store.start(StartRequest("order", {}))["saga_id"]) for _ in range(sagas)]

    def committed() -> int:
        with store.engine.connect() as connection:
            connection.execute(sa.text("SELECT pg_stat_force_next_flush()"))
            connection.rollback()
            connection.execute(sa.text("SELECT pg_stat_clear_snapshot()"))
            counted = "SELECT xact_commit FROM pg_stat_database WHERE datname = current_database()"
            return int(connection.execute(sa.text(counted)).scalar_one())

    before, sent = committed(), len(trips)
    for saga_id in ids:
        for step in steps:
            run.run(saga_id, step, undo=False, by=NODE)
    statements = len(trips) - sent
    assert statements == 2 * len(steps) * sagas
    assert committed() - before < 1.2 * statements, "nobody else is at this database but now and then autovacuum"


def test_a_failure_and_an_undo_cost_two_each(lab: Lab, trips: list[str]) -> None:
    """Budget: the turn rides in the commit of the failure."""
    saga = build("order", a={})

    def fail(ctx: SagaContext) -> None:
        raise ZeroDivisionError

    saga.step(name="z", retry=RetryPolicy(max_attempts=1))(fail)
    register(lab.engine, [saga], Settings())
    run, saga_id = runner(lab, saga)
    run.run(saga_id, "a", undo=False, by=NODE)
    trips.clear()
    report = run.run(saga_id, "z", undo=False, by=NODE)
    assert (report.next, trips) == ("undo", ["SELECT saga_claim", "SELECT saga_commit"])
    trips.clear()
    report = run.run(saga_id, "a", undo=True, by=NODE)
    assert (report.next, trips) == ("end", ["SELECT saga_claim", "SELECT saga_undone"])


def test_a_start_is_one_round_trip(lab: Lab, trips: list[str]) -> None:
    """Section 6.1: one statement."""
    run, _ = runner(lab, lab.define("order", a={}, b={}))
    trips.clear()
    run._store.start(StartRequest("order", {}, "key"))

    assert trips == ["SELECT saga_start"]


def synchronous(lab: Lab, sql: str, *values: Any) -> bool:
    """Whether the transaction of this statement would wait for the disk."""
    connection = lab.connect(autocommit=False)
    try:
        with connection.cursor() as cursor:
            cursor.execute(sql, values)
            cursor.execute("SHOW synchronous_commit")
            answer = str(cursor.fetchone()["synchronous_commit"])
        connection.commit()
        return answer == "on"
    finally:
        connection.close()


CLAIM = "SELECT saga_claim(%s, 'a', false, %s, 'n', NULL, NULL, NULL, 10)"
COMMIT = "SELECT saga_done(%s, 'a', %s, 'null', false, 10)"


@pytest.mark.parametrize(("kind", "expected"), [({}, [False, True]), (ONCE, [True, True])], ids=["plain", "once"])
def test_synchronous_commits_of_a_step(lab: Lab, kind: dict, expected: list[bool]) -> None:
    """Budget: one for an idempotent step, two for a non-idempotent one (its claim)."""
    run, attempt = lab.run(a=kind, b={}), uuid.uuid4()
    counted = [synchronous(lab, sql, str(run.saga_id), str(attempt)) for sql in (CLAIM, COMMIT)]

    assert counted == expected
    assert run.states() == ["COMPLETED", "PENDING"]


def test_a_step_of_a_long_saga_answers_as_much_as_one_of_a_short_saga(lab: Lab) -> None:
    """L64: outputs ride along while they are few, and a route is at most four steps."""
    many: dict[str, Any] = {f"s{number:03}": {} for number in range(60)}
    run = lab.run(**many)
    sizes = []
    for step in many:
        attempt = uuid.uuid4()
        answer = run.ask(step, attempt=attempt)
        sizes.append(len(str(answer)))
        committed = run.commit(step, attempt, output={"text": "x" * 50})
        assert len(committed.get("route") or []) <= 4
    assert run.state == "COMPLETED"
    assert max(sizes[20:]) <= max(sizes[:17])
    assert lab.store.outputs(run.saga_id).keys() == many.keys()


def updates(cursor: Any) -> dict[str, tuple[int, int]]:
    """Of this transaction, by table: how many, and how many of those wrote to no index."""
    counted = "SELECT n_tup_upd, n_tup_hot_upd FROM pg_stat_xact_user_tables WHERE relname = %s"
    found = {}
    for table in ("saga_steps", "saga_instances"):
        cursor.execute(counted, (table,))
        found[table] = tuple(cursor.fetchone().values())
    return found


def test_steps_and_sagas_are_updated_in_place(lab: Lab) -> None:
    """Decision 0011: a step's two updates and its saga's write to no index, but for where a saga begins and ends."""
    run, attempt = lab.run(a={}, b={}, c={}, d={}, e={}, f={}), uuid.uuid4()
    run.ask("a", attempt=attempt)
    connection = lab.connect(autocommit=False)
    try:
        with connection.cursor() as cursor:
            for step, after in pairwise("abcdef"):
                then = uuid.uuid4()
                cursor.execute(
                    "SELECT saga_done(%s, %s, %s, 'null', true, 10, %s, %s) AS answer",
                    (str(run.saga_id), step, str(attempt), [after], str(then)),
                )
                assert cursor.fetchone()["answer"]["then"]["step"] == after
                attempt = then
            found = updates(cursor)
        connection.commit()
    finally:
        connection.close()
    assert found == {"saga_steps": (10, 10), "saga_instances": (5, 5)}


def test_a_step_by_a_message_of_its_own_is_updated_in_place(lab: Lab) -> None:
    """Decision 0021: claimed and done apart from the others, it writes to no index either."""
    run = lab.run(a={}, b={}, c={}, d={})
    run.do("a")
    connection = lab.connect(autocommit=False)
    try:
        with connection.cursor() as cursor:
            for step in "bc":
                ids = (str(run.saga_id), step, str(uuid.uuid4()))
                cursor.execute("SELECT saga_claim(%s, %s, false, %s, 'n', NULL, 1, 1, 10) AS answer", ids)
                assert cursor.fetchone()["answer"]["verdict"] == "granted"
                cursor.execute("SELECT saga_done(%s, %s, %s, 'null', true, 10) AS answer", ids)
                assert cursor.fetchone()["answer"]["next"] == "continue"
            found = updates(cursor)
        connection.commit()
    finally:
        connection.close()
    assert found == {"saga_steps": (6, 6), "saga_instances": (4, 4)}


def test_a_statement_reads_the_rows_of_its_own_saga(lab: Lab) -> None:
    """Decision 0022: also where no saga was on its way, and the tables small, when PostgreSQL looked at them last."""
    lab.define("s", a={"undo": True}, b={})
    lab.sql("ANALYZE")
    connection = lab.connect(autocommit=False)
    try:
        with connection.cursor() as cursor:
            for _ in range(10):  # after five times each the plans are those of the connection's further life
                there_and_back(cursor, lab.start("s"))
                connection.commit()
            for number in range(100):
                other = lab.start("s")
                other.do("a")
                if number % 2:
                    other.do("b", outcome="failed")
            run, before = lab.start("s"), rows_read(cursor)
            there_and_back(cursor, run)
            after = rows_read(cursor)
        connection.commit()
    finally:
        connection.close()
    assert run.state == "COMPENSATED"
    # Three and five by a statement.
    assert after["saga_instances"] - before["saga_instances"] <= 18
    assert after["saga_steps"] - before["saga_steps"] <= 30


def rows_read(cursor: Any) -> dict[str, int]:
    """By table, so far: also by earlier transactions of this connection that it has not told of yet."""
    cursor.execute(
        "SELECT relname, seq_tup_read + coalesce(idx_tup_fetch, 0) AS rows FROM pg_stat_xact_user_tables"
        " WHERE relname IN ('saga_instances', 'saga_steps')"
    )
    return {"saga_instances": 0, "saga_steps": 0, **{one["relname"]: one["rows"] for one in cursor.fetchall()}}


def there_and_back(cursor: Any, run: Run) -> None:
    """A step done, the next one failed, the first one undone: six statements."""
    for step, undo, outcome in (("a", False, "done"), ("b", False, "failed"), ("a", True, "done")):
        attempt = str(uuid.uuid4())
        ids = (str(run.saga_id), step, undo, attempt)
        cursor.execute("SELECT saga_claim(%s, %s, %s, %s, 'n', NULL, 1, 1, 10) AS answer", ids)
        assert cursor.fetchone()["answer"]["verdict"] == "granted"
        if outcome == "failed":
            failed = "SELECT saga_commit(%s, %s, %s, 'failed', NULL, '{}', '[]', NULL, true) AS answer"
            cursor.execute(failed, (*ids[:2], attempt))
        else:
            word = "saga_undone" if undo else "saga_done"
            cursor.execute(f"SELECT {word}(%s, %s, %s, 'null', true, 10) AS answer", (*ids[:2], attempt))
        assert cursor.fetchone()["answer"]["verdict"] == "committed"


def test_a_hint_of_the_next_undo_waits_for_no_disk(lab: Lab) -> None:
    """On the way back it only notes that the undo is published."""
    run = lab.run(a={}, b={})
    run.do("a")
    run.do("b", outcome="failed")
    assert not synchronous(lab, "SELECT saga_hint(%s)", str(run.saga_id))


def test_a_hint_that_decides_waits_for_the_disk(lab: Lab) -> None:
    """R13: a turn that a crash forgets after its undo has acted is a saga that goes on with an effect undone."""
    run = lab.run(60.0, a={}, b={})
    run.do("a")
    lab.advance(61)
    assert synchronous(lab, "SELECT saga_hint(%s)", str(run.saga_id))
    assert run.state == "COMPENSATING"
