"""Exactly once: a transactional step's writes commit with its record (P4), whatever dies in between."""

import uuid
from collections.abc import Callable, Iterator
from typing import Any

import psycopg2
import pytest
import sqlalchemy as sa
from sqlalchemy.orm import Session

from sagas import RetryPolicy, Saga, SagaContext, SagaId
from sagas.errors import StorageUnavailable
from sagas.registry import Registry
from sagas.runtime.runner import Runner
from sagas.settings import Settings
from sagas.store.definitions import register
from sagas.store.store import Store
from tests.store.lab import LEASE, NODE, Lab, Run

Crash = Callable[[Session], None]


class Broken(Store):
    """The real store, with something that happens just before or after the step's own last statement."""

    before: Crash | None = None
    after: Crash | None = None

    def commit(self, *args: Any, session: Any = None, **more: Any) -> dict[str, Any]:
        if session is not None and self.before:
            self.before(session)
        answer = super().commit(*args, session=session, **more)
        if session is not None and self.after:
            self.after(session)
        return answer


class Shop:
    """A saga whose first step writes one row of its own."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self.body: Callable[[SagaContext], Any] = lambda ctx: {"ok": True}
        lab.sql("CREATE TABLE own (saga uuid, attempt uuid)")
        saga = Saga("shop")

        @saga.step(transactional=True, timeout=20, retry=RetryPolicy(max_attempts=3, backoff=0, jitter=0))
        def book(ctx: SagaContext) -> Any:
            ctx.emit("Booked", {})
            values = {"saga": ctx.saga_id, "attempt": ctx.attempt_id}
            ctx.session.execute(sa.text("INSERT INTO own VALUES (:saga, :attempt)"), values)
            return self.body(ctx)

        register(lab.engine, [saga], Settings())
        self.store = Broken(lab.engine)
        self.runner = Runner(self.store, Registry([saga]), {}, Settings(max_payload=1000))
        self.run: Run = lab.start("shop")

    def work(self, saga_id: SagaId | None = None) -> Any:
        return self.runner.run(saga_id or self.run.saga_id, "book", undo=False, by=NODE)

    def rows(self) -> int:
        return int(self.lab.value("SELECT count(*) FROM own"))


@pytest.fixture
def shop(lab: Lab) -> Iterator[Shop]:
    yield Shop(lab)


def kill(lab: Lab) -> Crash:
    """The connection's backend is terminated and gone before the next statement."""

    def crash(session: Session) -> None:
        pid = session.scalar(sa.text("SELECT pg_backend_pid()"))
        lab.sql("SELECT pg_terminate_backend(%s, 5000)", pid)

    return crash


def test_it_commits_with_its_record(shop: Shop) -> None:
    """P4, P8: its row, its output, its events: one transaction."""
    report = shop.work()

    assert (report.verdict, shop.rows(), shop.run.state) == ("committed", 1, "COMPLETED")
    assert shop.run.event_types() == ["SagaStarted", "Booked", "StepCompleted", "SagaCompleted"]
    transactions = shop.lab.value("SELECT count(DISTINCT x) FROM (SELECT xmin::text AS x FROM own UNION ALL SELECT"
                                  " xmin::text FROM saga_events WHERE event_type <> 'SagaStarted') q")  # fmt: skip
    assert transactions == 1


def test_killed_before_its_last_statement(shop: Shop) -> None:
    """P4: nothing is there; it is run again, once."""
    shop.store.before = kill(shop.lab)
    report = shop.work()
    assert (report.outcome.kind, shop.rows(), shop.run.states()) == ("not_ready", 0, ["PENDING"])
    assert shop.run.step("book")["effect_possible"] is False

    shop.store.before = None
    shop.lab.advance(1.1)
    shop.work()
    assert (shop.rows(), shop.run.state) == (1, "COMPLETED")
    assert shop.run.step("book")["attempt"] == 1, "trouble with the database spends no attempt"


def test_killed_between_its_last_statement_and_the_commit(shop: Shop) -> None:
    """P4: the connection dies between the commit call and COMMIT: neither is there, and the second attempt counts."""
    shop.store.after = kill(shop.lab)
    report = shop.work()
    assert (report.next, shop.rows(), shop.run.states()) == ("again", 0, ["PENDING"])
    assert "Booked" not in shop.run.event_types()

    shop.store.after = None
    shop.lab.advance(1.1)
    shop.work()
    assert (shop.rows(), shop.run.state) == (1, "COMPLETED")
    assert shop.run.step("book")["attempt"] == 1


def test_its_own_code_meets_the_dead_connection_first(shop: Shop) -> None:
    """Design 6.8: the database is away, and that is no outcome of the step's."""

    def die(ctx: SagaContext) -> None:
        kill(shop.lab)(ctx.session)
        ctx.session.execute(sa.text("SELECT 1"))

    shop.body = die
    report = shop.work()
    assert (report.outcome.kind, shop.rows(), shop.run.states()) == ("not_ready", 0, ["PENDING"])
    assert shop.run.step("book")["attempt"] == 0


def test_killed_after_the_commit_before_its_reply(shop: Shop) -> None:
    """P4, R5: it has committed; the question by its id finds that out, and it is not run again."""

    def commit_and_die(session: Session) -> None:
        session.commit()
        raise StorageUnavailable("the reply to COMMIT was lost")

    shop.store.after = commit_and_die
    report = shop.work()

    assert (report.verdict, shop.rows(), shop.run.state) == ("recorded", 1, "COMPLETED")
    assert shop.run.event_types().count("StepCompleted") == 1


def test_taken_over_while_it_runs(shop: Shop) -> None:
    """P3, P4: its claim is gone when it comes to commit: its writes are rolled back."""

    def lose(ctx: SagaContext) -> None:
        shop.lab.advance(LEASE + 1)
        shop.lab.reconcile()

    shop.body = lose
    report = shop.work()
    assert (report.verdict, shop.rows(), shop.run.states()) == ("late", 0, ["PENDING"])
    assert "LateEffect" not in shop.run.event_types()

    shop.body = lambda ctx: None
    shop.work()
    assert (shop.rows(), shop.run.state) == (1, "COMPLETED")


@pytest.mark.parametrize(
    "error", [ValueError("no"), sa.exc.InvalidRequestError("no"), psycopg2.errors.UniqueViolation("no")], ids=repr
)
def test_what_raised_leaves_nothing(shop: Shop, error: Exception) -> None:
    """P4: its writes are rolled back with it."""

    def fail(ctx: SagaContext) -> None:
        raise error

    shop.body = fail
    report = shop.work()

    assert (report.outcome.kind, shop.rows()) == ("failed", 0)
    assert shop.run.step("book")["error"]["type"] == type(error).__name__


def test_a_broken_statement_of_its_own_is_its_failure(shop: Shop) -> None:
    """P4: the aborted transaction does not hinder the record."""
    shop.body = lambda ctx: ctx.session.execute(sa.text("SELECT 1/0"))
    report = shop.work()

    assert (report.outcome.kind, shop.rows(), shop.run.step("book")["attempt"]) == ("failed", 0, 1)


def test_an_output_that_cannot_be_stored_leaves_nothing(shop: Shop) -> None:
    """Design 6.11: here the effect can be taken back."""
    shop.body = lambda ctx: {"big": "x" * 2000}
    report = shop.work()

    assert (report.outcome.kind, shop.rows()) == ("failed", 0)
    assert (shop.run.state, shop.run.step("book")["effect_possible"]) == ("COMPENSATED", False)


def test_it_locks_the_saga_only_at_its_end(shop: Shop) -> None:
    """R21: while it works, others may read and cancel its saga."""
    shop.body = lambda ctx: shop.lab.store.cancel(ctx.saga_id, "meanwhile", None)
    shop.work()

    assert shop.run.state == "CANCELLED"
    assert shop.rows() == 1


def test_an_idle_transaction_ends_with_its_time_limit(shop: Shop) -> None:
    """R21: its idle time-out is at most its lease."""
    shop.body = lambda ctx: {
        "idle": ctx.session.scalar(sa.text("SELECT setting::int FROM pg_settings WHERE name = :name"),
                                   {"name": "idle_in_transaction_session_timeout"})
    }  # fmt: skip
    shop.work()

    assert 0 < shop.run.step("book")["output_data"]["idle"] <= LEASE * 1000


def test_another_step_has_no_session(lab: Lab) -> None:
    """A step that is not transactional is told so, in one line."""
    ctx = SagaContext(SagaId.new(), "order", step="pay", attempt_id=uuid.uuid4())
    with pytest.raises(Exception, match="declare it with transactional=True"):
        _ = ctx.session
