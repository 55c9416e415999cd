"""What a saga is: definitions by decorator and by class (section 4)."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from sagas import DefinitionError, RetryPolicy, Saga, SagaContext, SagaId, Step
from sagas.policy import DEFAULT_COMPENSATION_RETRY, DEFAULT_RETRY


def body(ctx: SagaContext) -> dict[str, Any]:
    return {"saw": ctx.payload}


def context(**fields: Any) -> SagaContext:
    return SagaContext(SagaId.new(), "order", **fields)


def test_the_order_of_the_decorators_is_the_order_of_the_steps() -> None:
    saga = Saga("order")
    for name in ("c", "a", "b"):
        saga.step(name=name)(body)

    assert [step.name for step in saga.steps] == ["c", "a", "b"]


def test_a_decorated_function_is_a_step_and_stays_callable() -> None:
    """For unit tests without an engine."""
    saga = Saga("order")

    @saga.step
    def reserve(ctx: SagaContext) -> dict[str, Any]:
        return {"sku": ctx.payload["sku"]}

    assert isinstance(reserve, Step)
    assert reserve.name == "reserve"
    assert reserve(context(payload={"sku": 1})) == reserve.execute(context(payload={"sku": 1})) == {"sku": 1}


def test_a_step_s_defaults() -> None:
    step = Saga("order").step(name="a")(body)

    assert (step.is_idempotent, step.transactional, step.pivot, step.has_compensation) == (True, False, False, False)
    assert (step.retry, step.undo_retry, step.queue, step.timeout) == (
        DEFAULT_RETRY,
        DEFAULT_COMPENSATION_RETRY,
        "steps",
        None,
    )
    assert step.compensate(context()) is None


def test_a_compensation_stays_a_plain_function() -> None:
    saga = Saga("order")
    step = saga.step(name="a")(body)
    told: list[str] = []

    @step.compensation
    def undo(ctx: SagaContext) -> None:
        told.append(ctx.idempotency_key)

    undo(context(step="a"))
    step.compensate(context(step="a"))
    assert (len(told), step.has_compensation) == (2, True)


def test_a_compensation_has_its_own_policy_and_limit() -> None:
    step = Saga("order").step(name="a", timeout=5)(body)
    policy = RetryPolicy(max_attempts=7)
    step.compensation(retry=policy, timeout=timedelta(minutes=1))(body)

    assert (step.undo_retry, step.undo_timeout) == (policy, 60.0)
    plan = step.plan(300.0)
    assert (plan["timeout_s"], plan["undo_timeout_s"], plan["undo_max_attempts"]) == (5.0, 60.0, 7)


@pytest.mark.parametrize(
    ("option", "value", "key", "stored"),
    [
        ("idempotent", False, "idempotent", False),
        ("transactional", True, "transactional", True),
        ("pivot", True, "pivot", True),
        ("compensate_on_failure", True, "compensate_on_failure", True),
        ("timeout", 7, "timeout_s", 7.0),
        ("timeout", timedelta(seconds=8), "timeout_s", 8.0),
        ("retry", RetryPolicy(max_attempts=9), "max_attempts", 9),
        ("queue", "payments", "queue", "payments"),
        ("priority", 3, "priority", 3),
    ],
)
def test_every_option_reaches_the_plan(option: str, value: object, key: str, stored: object) -> None:
    """L74: an option that is accepted is read."""
    plain = Saga("order").step(name="a")(body).plan(300.0)
    options: dict[str, Any] = {option: value}
    plan = Saga("order").step(name="a", **options)(body).plan(300.0)

    assert plan[key] == stored
    assert plan != plain


def test_the_default_time_limit_is_the_setting_s() -> None:
    assert Saga("order").step(name="a")(body).plan(123.0)["timeout_s"] == 123.0


def test_undos_have_their_own_queue_unless_they_are_bound_to_a_place() -> None:
    """Rollback never waits behind new work."""
    saga = Saga("order")

    assert saga.step(name="a", queue="payments")(body).plan(1.0)["undo_queue"] == "compensations"
    assert saga.step(name="b", queue="provider.{host}")(body).plan(1.0)["undo_queue"] == "provider.{host}"


def refused(make: Callable[[], object], text: str) -> None:
    with pytest.raises(DefinitionError, match=text) as caught:
        make()
    assert "\n" not in str(caught.value)


async def later(ctx: SagaContext) -> None: ...


def test_async_functions_are_refused() -> None:
    """Section 4, section 10: no async twins."""
    saga = Saga("order")
    step = saga.step(name="a")(body)

    refused(lambda: saga.step(name="b")(later), "async")
    refused(lambda: step.compensation(later), "async")
    refused(lambda: step.verify(later), "async")


def test_contradictions_are_refused() -> None:
    saga = Saga("order")
    saga.step(name="a")(body)

    refused(lambda: saga.step(name="a")(body), "two steps called 'a'")
    refused(lambda: saga.step(name="compensate")(body), "reserved")
    refused(lambda: saga.step(name="b", transactional=True, idempotent=False)(body), "exactly-once")
    refused(lambda: saga.step(name="c", timeout=0)(body), "more than 0")
    refused(lambda: Saga("order", timeout=-1), "more than 0")
    refused(lambda: Saga("jobs"), "reserved")
    refused(lambda: Saga("order", version=0), "version=0")
    refused(lambda: Saga("order", version=True), "version=True")
    assert [step.name for step in saga.steps] == ["a"]


class Charge:
    """A step as an object of a class of one's own."""

    name = "charge"
    is_idempotent = False
    timeout = timedelta(seconds=4)
    retry = RetryPolicy(max_attempts=5)
    compensation_retry = RetryPolicy(max_attempts=6)
    compensation_timeout = 9

    def execute(self, ctx: SagaContext) -> str:
        return "charged"

    def compensate(self, ctx: SagaContext) -> str:
        return "refunded"

    def verify(self, ctx: SagaContext) -> None:
        return None


def test_a_class_of_one_s_own() -> None:
    """`saga.add(step)`: its attributes are the options of `step`."""
    step = Saga("order").add(Charge())
    plan = step.plan(300.0)

    assert (step.execute(context()), step.compensate(context())) == ("charged", "refunded")
    assert (plan["idempotent"], plan["has_compensation"], plan["has_verify"]) == (False, True, True)
    assert (plan["timeout_s"], plan["undo_timeout_s"]) == (4.0, 9.0)
    assert (plan["max_attempts"], plan["undo_max_attempts"]) == (5, 6)


def test_options_win_over_attributes() -> None:
    step = Saga("order").add(Charge(), timeout=1, queue="payments")

    assert (step.timeout, step.queue, step.is_idempotent) == (1.0, "payments", False)


def test_what_is_no_step_is_refused() -> None:
    refused(lambda: Saga("order").add(object()), "is no step")  # type: ignore[arg-type]
    refused(lambda: Saga("order").add(Charge(), speed=3), "unknown option 'speed'")


def test_the_digest_is_of_what_sagas_in_flight_depend_on() -> None:
    """Design 7, L56: names, order and kinds; not time-outs, retries or queues."""

    def saga(*names: str, **options: Any) -> Saga:
        made = Saga("order")
        for name in names:
            made.step(name=name, **options)(body)
        return made

    same = saga("a", "b").digest()
    assert saga("a", "b", timeout=3, queue="x", retry=RetryPolicy(9), priority=1).digest() == same
    for other in (saga("b", "a"), saga("a"), saga("a", "b", idempotent=False), saga("a", "b", pivot=True)):
        assert other.digest() != same
    with_undo = saga("a", "b")
    with_undo.steps[0].compensation(body)
    assert with_undo.digest() != same


def test_a_step_is_found_by_its_name() -> None:
    saga = Saga("order", version=2, timeout=timedelta(minutes=10))
    saga.step(name="a")(body)

    assert saga.get("a").name == "a"
    assert saga.timeout == 600.0
    with pytest.raises(KeyError):
        saga.get("b")
    assert repr(saga) == "Saga('order', version=2, steps=['a'])"
