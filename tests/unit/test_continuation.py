"""What a message may go on to: decided from the definitions and the tasks alone (decision 0009)."""

from typing import Any

import pytest
from celery import Celery
from celery.app.task import Context

from sagas import Saga
from sagas.runtime.continuation import Continuation, _successor
from sagas.runtime.engine import Engine
from sagas.runtime.install import install


def nothing(ctx: object) -> None:
    """The body of every step here."""


def saga(first: dict[str, Any] | None = None, second: dict[str, Any] | None = None, **options: Any) -> Saga:
    """Of the steps a, b and c, each with an undo; options are those of a, of b, and of the saga."""
    made = Saga("order", **options)
    for name, given in (("a", first or {}), ("b", second or {}), ("c", {})):
        made.step(name=name, **given)(nothing).compensation(nothing)
    return made


def engine_with(saga: Saga, **conf: Any) -> Engine:
    """An app of its own, with these settings of Celery's; nothing is connected."""
    app = Celery("unit", broker="memory://", set_as_current=False)
    app.conf.update(conf)
    return install(app, sagas=[saga], database_url="postgresql://nobody@127.0.0.1/none", broker_url="memory://")


def after(saga: Saga, step: str = "a", *, undo: bool = False, budget: float = 60.0, **conf: Any) -> tuple[str, ...]:
    """What `order.<step>` may go on to at the start of its message."""
    engine = engine_with(saga, **conf)
    limit = engine.app.tasks[f"order.{step}{'.compensate' if undo else ''}"].time_limit
    engine.continuation._message.begin(budget, limit)
    return gate(engine.continuation, step, undo)


def gate(continuation: Continuation, step: str, undo: bool) -> tuple[str, ...]:
    may_go_on = continuation.gate(step, undo)
    assert may_go_on is not None
    return may_go_on("order", 1)


def test_the_next_step_and_any_other_undo() -> None:
    """Forward the order is the definition's; going back the store knows it."""
    assert after(saga()) == ("b",)
    assert after(saga(), "c") == ()
    assert after(saga(), "c", undo=True) == ("a", "b")


@pytest.mark.parametrize(
    "second",
    [{"queue": "elsewhere"}, {"priority": 9}, {"rate_limit": "1/m"}, {"continuation": False}],
    ids=lambda given: next(iter(given)),
)
def test_what_a_user_could_see_waits_for_its_message(second: dict[str, Any]) -> None:
    assert after(saga(second=second)) == ()


def test_a_rate_limit_by_annotation_counts() -> None:
    assert after(saga(), task_annotations={"order.b": {"rate_limit": "1/m"}}) == ()


def test_off_for_a_saga() -> None:
    assert after(saga(continuation=False)) == ()


def test_the_budget_is_the_messages() -> None:
    assert after(saga(), budget=-1.0) == ()


def test_what_is_left_of_the_messages_limit_must_do_for_the_next_step() -> None:
    """R12: Celery's hard limit counts the whole message; the second step's own must fit into what is left of it."""
    assert after(saga({"timeout": 1}, {"timeout": 120})) == ("b",)
    assert after(saga({"timeout": 1}, {"timeout": 122})) == ()
    assert after(saga({"timeout": 122}, {"timeout": 1})) == ("b",)


def test_outside_a_message_nothing_is_gone_on_to() -> None:
    """`execute_saga`, a step called in a test, or the setting at 0."""
    engine = engine_with(saga())
    assert engine.continuation.gate("a", False) is None


def test_a_version_that_this_worker_lacks() -> None:
    engine = engine_with(saga())
    engine.continuation._message.begin(60.0, 1e6)
    may_go_on = engine.continuation.gate("a", False)
    assert may_go_on is not None and may_go_on("order", 2) == ()


def test_a_continued_request_has_the_headers_of_its_message() -> None:
    """What an instrumentation has put into the message is there for each step, read once for all of them."""
    message = {"id": "1", "root_id": "r", "task": "order.a", "chain": None, "traceparent": "00-1"}
    second = _successor(message, "order.b")
    third = _successor(second, "order.c")
    for request in (second, third):
        context = Context(request, args=(), kwargs={})
        assert context.headers == {"traceparent": "00-1"}
        assert (context.traceparent, context.root_id) == ("00-1", "r")
    assert Context(_successor({"id": "1", "task": "order.a"}, "order.b")).headers == {}
