"""What a message may go on to: decided from the definitions and the tasks alone (decision 0009)."""

import uuid
from typing import Any

import pytest
from celery import Celery
from celery.app.task import Context

from sagas import Saga, SagaId
from sagas.runtime.continuation import Continuation
from sagas.runtime.continued import successor, with_headers
from sagas.runtime.engine import Engine
from sagas.runtime.handover import Granted
from sagas.runtime.install import install
from sagas.runtime.limits import CLAIM_PATIENCE


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
    came = {"id": "1", "root_id": "r", "task": "order.a", "chain": None, "lang": "py", "traceparent": "00-1"}
    first = with_headers(came)
    second = successor(first, "order.b")
    third = successor(second, "order.c")
    for request in (first, second, third):
        context = Context(request, args=(), kwargs={})
        assert context.headers == Context(came, args=(), kwargs={}).headers == {"traceparent": "00-1"}
        assert (context.traceparent, context.root_id) == ("00-1", "r")
    assert Context(successor(with_headers({"id": "1", "task": "order.a"}), "order.b")).headers == {}
    given = {"id": "1", "task": "order.a", "headers": {"x": 1}, "y": 2}
    assert Context(with_headers(given)).headers == Context(given).headers == {"x": 1}


def turns(saga: Saga, *, first: bool = False, consuming: bool = True, budget: float = 60.0, **conf: Any) -> bool:
    """Whether a message of `order.a` that is at b, which fails, goes on to `sagas.compensate`."""
    engine = engine_with(saga, **conf)
    engine.consuming.note(consuming)
    message = engine.continuation._message
    message.begin(budget, engine.app.tasks["order.a"].time_limit)
    if not first:
        message.advance()
    turned = engine.continuation.turn("order", 1, "b")
    assert turned == (message.advance() == "sagas.compensate")
    return turned


def test_a_failed_step_turns_back_at_once() -> None:
    assert turns(saga())


@pytest.mark.parametrize(
    "given",
    [
        {"consuming": False},
        {"first": True},
        {"budget": -1.0},
        {"task_annotations": {"sagas.compensate": {"rate_limit": "1/m"}}},
    ],
    ids=lambda given: next(iter(given)),
)
def test_where_somebody_could_see_it_a_failed_steps_link_error_is_published(given: dict[str, Any]) -> None:
    assert not turns(saga(), **given)


def test_a_saga_or_a_step_that_goes_by_messages_does_so_back_too() -> None:
    assert not turns(saga(continuation=False))
    assert not turns(saga(second={"continuation": False}))


def test_outside_a_message_nothing_turns() -> None:
    engine = engine_with(saga())
    engine.consuming.note(True)
    assert not engine.continuation.turn("order", 1, "b")
    assert not engine.continuation.turn("order", 2, "b")


def test_an_undo_in_a_steps_message_fits_into_its_limit() -> None:
    """R12: its own time comes first; what is left is patience at its claim."""
    found = {"undo": True, "saga_type": "order", "version": 1, "route": [{"step": "a", "queue": "compensations"}]}
    for undo_timeout, goes in ((10, True), (600, False)):
        made = Saga("order")
        made.step(name="a")(nothing).compensation(nothing, timeout=undo_timeout)
        made.step(name="b", timeout=10)(nothing)
        engine = engine_with(made)
        continuation = engine.continuation
        continuation._message.begin(60.0, engine.app.tasks["order.b"].time_limit)
        continuation._message.began -= 5.0
        assert continuation.go_back(found) is goes
        assert continuation.patience() == pytest.approx(CLAIM_PATIENCE - (5.0 if goes else 0.0), abs=1.0)


def test_a_continued_errback_is_as_its_message_would_be() -> None:
    """No errback of its own, and from its own queue."""
    errback = {"task": "sagas.compensate"}
    failed = {
        "id": "1",
        "root_id": "r",
        "task": "order.b",
        "errbacks": [errback],
        "delivery_info": {"routing_key": "q"},
    }
    request = successor(failed, "sagas.compensate")
    assert (request["errbacks"], request["parent_id"], request["root_id"]) == (None, "1", "r")
    assert request["delivery_info"] == {"routing_key": "compensations"}
    assert failed["errbacks"] == [errback] and failed["delivery_info"] == {"routing_key": "q"}
    assert successor(request, "order.a.compensate")["errbacks"] is None


def test_a_claim_is_of_one_saga_alone() -> None:
    """What Celery has refused to run leaves its claim behind; the next saga's same step must not run under it."""
    continuation = engine_with(saga()).continuation
    one, other = SagaId.new(), SagaId.new()
    for asked, found in ((other, False), (one, True)):
        claim = continuation._message.granted = Granted(one, "a", uuid.uuid4(), {})
        assert continuation.granted(asked, "a") is (claim if found else None)
        assert continuation.granted(one, "a") is None
