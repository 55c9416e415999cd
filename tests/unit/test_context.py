"""What a step is given."""

from typing import Any, Protocol

import pytest

from sagas import ConfigurationError, NotReady, SagaContext, SagaId
from sagas.context import Outputs


class Psp(Protocol):
    def find(self) -> str: ...


class Other(Protocol): ...


class RealPsp:
    def find(self) -> str:
        return "found"


def context(**fields: Any) -> SagaContext:
    return SagaContext(SagaId.new(), "order", **{"step": "charge", **fields})


def test_one_key_for_every_attempt_of_a_step() -> None:
    """`ctx.idempotency_key`: of the saga and the step, of no attempt; another step's is another."""
    saga_id = SagaId.new()
    keys = {SagaContext(saga_id, "order", step="charge", attempt=n).idempotency_key for n in (1, 2, 3)}

    assert len(keys) == 1
    assert SagaContext(saga_id, "order", step="ship").idempotency_key not in keys
    assert context().idempotency_key not in keys


def test_a_unit_test_needs_two_arguments() -> None:
    ctx = SagaContext(SagaId.new(), "order")

    assert (ctx.payload, dict(ctx.outputs), ctx.output, ctx.attempt, ctx.compensation_data) == ({}, {}, None, 1, None)
    ctx.prepare_undo({"bucket": 1})
    assert ctx.compensation_data == {"bucket": 1}


def test_prepare_undo_goes_to_the_store_at_once() -> None:
    stored: list[Any] = []
    context(_store_undo=stored.append).prepare_undo({"bucket": 1})

    assert stored == [{"bucket": 1}]


def test_emit_is_buffered_in_order_and_copied() -> None:
    """R7."""
    ctx, payload = context(), {"n": 1}
    ctx.emit("First", payload)
    payload["n"] = 2
    ctx.emit("Second")

    assert ctx.events == [("First", {"n": 1}), ("Second", {})]


def test_ports() -> None:
    """A step asks for a Protocol and gets the adapter; a missing one is told in one line."""
    ctx = context(ports={Psp: RealPsp()})

    assert ctx.port(Psp).find() == "found"
    with pytest.raises(ConfigurationError, match=r"'charge' asks for the port Other") as caught:
        ctx.port(Other)
    assert "\n" not in str(caught.value)


def test_outputs_that_did_not_ride_are_fetched_once_and_only_when_asked_for() -> None:
    """L64: constant message and claim size."""
    calls: list[int] = []

    def load() -> dict[str, int]:
        calls.append(1)
        return {"a": 1, "b": 2}

    outputs = Outputs(None, load)
    assert calls == []
    assert (outputs["a"], len(outputs), sorted(outputs), "c" in outputs) == (1, 2, ["a", "b"], False)
    assert calls == [1]
    assert repr(outputs) == "Outputs({'a': 1, 'b': 2})"


def test_outputs_that_rode_along_are_not_fetched() -> None:
    outputs = Outputs({"a": 1}, lambda: pytest.fail("fetched"))

    assert dict(outputs) == {"a": 1}
    with pytest.raises(KeyError):
        outputs["b"]


def test_not_ready_says_when() -> None:
    assert NotReady(retry_in=7).retry_in == 7
    assert "7" in str(NotReady(retry_in=7))
    assert str(NotReady("pod is starting")) == "pod is starting"
