"""The seed's US-1.3 with the real orchestrator: sagas run to their end in this process, durably."""

import threading
from collections.abc import Iterator
from typing import Any

import pytest
from celery import Celery
from psycopg2 import DatabaseError

from sagas import CancelSaga, NotReady, PermanentError, RetryPolicy, Saga, SagaContext, SagaId, SagaNotFound, SagaState
from sagas.results import DomainEvent
from sagas.runtime.engine import Engine
from sagas.runtime.orchestrator import Orchestrator
from sagas.settings import Settings
from tests.harness.database import MakeDatabase

QUICK = RetryPolicy(max_attempts=2, backoff=0.05, jitter=0)


@pytest.fixture
def engine(make_database: MakeDatabase) -> Iterator[Engine]:
    engine = Engine(Celery("test", broker="memory://"), Settings(database_url=make_database("engine")))
    yield engine
    engine.sql.dispose()


@pytest.fixture
def orchestrator(engine: Engine) -> Orchestrator:
    return engine.orchestrator


class Told:
    """A saga that writes down what it does; a step's text says how it behaves."""

    def __init__(self, **steps: str) -> None:
        self.log: list[str] = []
        self.saga = Saga("test")
        for name, behaviour in steps.items():
            step = self.saga.step(name=name, retry=QUICK)(self.body(name, behaviour))
            step.compensation(retry=QUICK)(self.undo(name, behaviour))

    def body(self, name: str, behaviour: str) -> Any:
        def run(ctx: SagaContext) -> dict[str, Any]:
            self.log.append(name)
            if behaviour == "fail":
                raise PermanentError("planned")
            if behaviour == "raise" or (behaviour == "flaky" and ctx.attempt == 1):
                raise ValueError("planned")
            if behaviour == "cancel":
                raise CancelSaga("planned")
            if behaviour == "later" and self.log.count(name) == 1:
                raise NotReady(retry_in=0.05)
            return {"step": name, "saw": sorted(ctx.outputs)}

        return run

    def undo(self, name: str, behaviour: str) -> Any:
        def run(ctx: SagaContext) -> None:
            self.log.append(f"undo {name}")
            if behaviour == "stuck":
                raise ValueError("cannot be undone")

        return run


def test_execute_saga_runs_all_steps(orchestrator: Orchestrator) -> None:
    """US-1.3: execute_saga_should_run_all_steps."""
    told = Told(one="ok", two="ok", three="ok")
    result = orchestrator.execute_saga(told.saga)

    assert (result.outcome, result.steps_executed) == (SagaState.COMPLETED, 3)
    assert told.log == ["one", "two", "three"]
    assert result.outputs["three"] == {"step": "three", "saw": ["one", "two"]}


def test_execute_saga_compensates_on_failure(orchestrator: Orchestrator) -> None:
    """US-1.3: execute_saga_should_compensate_on_failure."""
    told = Told(step1="ok", step2="fail")
    result = orchestrator.execute_saga(told.saga)

    assert result.outcome == SagaState.COMPENSATED
    assert (result.steps_executed, result.compensations_executed) == (2, 1)
    assert told.log == ["step1", "step2", "undo step1"]
    assert result.error == "PermanentError: planned"


def test_execute_saga_records_audit_events(orchestrator: Orchestrator, engine: Engine) -> None:
    """US-1.3: execute_saga_should_record_audit_events."""
    orchestrator.execute_saga(Told(one="ok").saga, correlation_id="test-saga")

    events = engine.repository.find_events_by_correlation_id("test-saga")
    assert [event.event_type for event in events] == ["SagaStarted", "StepCompleted", "SagaCompleted"]


def test_execute_saga_publishes_events_via_the_outbox(orchestrator: Orchestrator, engine: Engine) -> None:
    """US-1.3: execute_saga_should_publish_events_via_outbox: rows of saga_events, in order."""
    result = orchestrator.execute_saga(Told(one="ok", two="ok").saga)

    events = engine.repository.events_of(f"saga:{result.saga_id}")
    assert [(event.event_type, event.step_name) for event in events] == [
        ("SagaStarted", None),
        ("StepCompleted", "one"),
        ("StepCompleted", "two"),
        ("SagaCompleted", None),
    ]
    numbers = [event.event_id or 0 for event in events]
    assert numbers == sorted(numbers)


def test_compensations_run_in_reverse_order(orchestrator: Orchestrator) -> None:
    """US-1.3, criterion 3."""
    told = Told(a="ok", b="ok", c="ok", d="fail")
    orchestrator.execute_saga(told.saga)

    assert told.log == ["a", "b", "c", "d", "undo c", "undo b", "undo a"]


def test_a_flaky_step_is_tried_again(orchestrator: Orchestrator) -> None:
    told = Told(one="flaky", two="ok")
    result = orchestrator.execute_saga(told.saga)

    assert (result.outcome, told.log) == (SagaState.COMPLETED, ["one", "one", "two"])


def test_attempts_run_out(orchestrator: Orchestrator) -> None:
    """L74: max_attempts=2 gives two."""
    told = Told(one="ok", two="raise")
    result = orchestrator.execute_saga(told.saga)

    assert result.outcome == SagaState.COMPENSATED
    assert told.log == ["one", "two", "two", "undo one"]


def test_a_step_that_is_not_ready_is_asked_again(orchestrator: Orchestrator) -> None:
    told = Told(one="later")

    assert orchestrator.execute_saga(told.saga).outcome == SagaState.COMPLETED
    assert told.log == ["one", "one"]


def test_a_step_may_cancel_its_saga(orchestrator: Orchestrator) -> None:
    """CancelSaga: CANCELLED, with what was done undone."""
    told = Told(one="ok", two="cancel")
    result = orchestrator.execute_saga(told.saga)

    assert (result.outcome, told.log) == (SagaState.CANCELLED, ["one", "two", "undo one"])
    assert result.error == "CancelSaga: planned"


def test_an_undo_that_cannot_be_done_ends_failed(orchestrator: Orchestrator, engine: Engine) -> None:
    """L54, P6."""
    told = Told(one="ok", two="stuck", three="fail")
    result = orchestrator.execute_saga(told.saga)

    assert (result.outcome, result.compensations_executed) == (SagaState.FAILED, 0)
    assert told.log == ["one", "two", "three", "undo two", "undo two"]


def test_the_same_key_runs_once(orchestrator: Orchestrator) -> None:
    """P11: the second call gets the first one's result."""
    told = Told(one="ok")
    first = orchestrator.execute_saga(told.saga, {"n": 1}, idempotency_key="k")
    second = orchestrator.execute_saga(told.saga, {"n": 1}, idempotency_key="k")

    assert (first, told.log) == (second, ["one"])
    assert orchestrator.is_idempotent("test", "k")
    assert not orchestrator.is_idempotent("test", "other")


def test_two_drivers_of_one_saga_do_each_step_once(orchestrator: Orchestrator, engine: Engine) -> None:
    """L10, L7: whoever helps, a step is claimed once."""
    told = Told(one="ok", two="ok", three="ok")
    barrier = threading.Barrier(2)
    results: list[Any] = []

    def drive() -> None:
        barrier.wait(10)
        results.append(orchestrator.execute_saga(told.saga, idempotency_key="k"))

    threads = [threading.Thread(target=drive) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)

    assert results[0] == results[1]
    assert told.log == ["one", "two", "three"]


def test_an_unknown_saga_cannot_be_driven(orchestrator: Orchestrator) -> None:
    with pytest.raises(SagaNotFound):
        orchestrator.drive(SagaId.new())


def test_an_event_in_the_caller_s_transaction(orchestrator: Orchestrator, engine: Engine) -> None:
    """L6: rolled back with it, committed with it."""
    event = DomainEvent("WorkerSeen", "worker:1")
    with engine.sql.connect() as connection:
        orchestrator.record_step_event(event, session=connection)
        connection.rollback()
    assert engine.repository.events_of("worker:1") == []

    with engine.sql.begin() as connection:
        orchestrator.record_step_event(event, session=connection)
    assert len(engine.repository.events_of("worker:1")) == 1


def test_an_event_that_cannot_be_written_is_an_error(orchestrator: Orchestrator, engine: Engine) -> None:
    """US-5.1: record_step_event_should_handle_failures_gracefully: told to the caller, and it passes."""
    event = DomainEvent("WorkerHeartbeatMissed", "worker:1", {"job_id": "7"})
    with engine.sql.begin() as connection:
        connection.exec_driver_sql("ALTER TABLE saga_events RENAME TO saga_events_away")
    with pytest.raises(DatabaseError, match="saga_events"):
        orchestrator.record_step_event(event)
    with engine.sql.begin() as connection:
        connection.exec_driver_sql("ALTER TABLE saga_events_away RENAME TO saga_events")

    orchestrator.record_step_event(event)
    (recorded,) = engine.repository.events_of("worker:1")
    assert (recorded.event_type, recorded.payload) == ("WorkerHeartbeatMissed", {"job_id": "7"})
