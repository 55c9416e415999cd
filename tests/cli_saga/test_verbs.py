"""`hodei saga retry | skip | force | pause | resume`: each acts once, is an event with actor and reason (R17)."""

import pytest

from examples.order import order
from sagas import RetryPolicy, Saga, SagaContext, SagaResult
from sagas.runtime.engine import Engine
from sagas.runtime.process import claimant
from sagas.store.requests import Claimant
from tests.cli_saga.conftest import PAYLOAD, Hodei
from tests.cli_saga.stubborn import stubborn

WHY = ("--reason", "looked at it", "--actor", "ana")


@pytest.fixture
def failed(engine: Engine) -> SagaResult:
    """A saga whose undo has failed."""
    return engine.orchestrator.execute_saga(stubborn, {})


def events(hodei: Hodei, result: SagaResult) -> list[tuple[str, str | None]]:
    told = hodei("saga", "show", str(result.saga_id), "--json").json
    return [(one["event_type"], one["actor"]) for one in told["events"]]


def attempt(hodei: Hodei, result: SagaResult, step: str) -> str:
    told = hodei("saga", "show", str(result.saga_id), "--json").json
    return str(next(one["attempt_id"] for one in told["steps"] if one["step_name"] == step))


def test_a_failed_undo_is_forced_once(hodei: Hodei, engine: Engine, failed: SagaResult) -> None:
    said = (str(failed.saga_id), "--step", "take", "--attempt", attempt(hodei, failed, "take"), *WHY)
    assert hodei("saga", "force", *said).out.strip() == "mended"
    assert "only a FAILED saga" in hodei("saga", "force", *said).refusal
    assert engine.repository.status(failed.saga_id).state == "COMPENSATED"
    assert events(hodei, failed).count(("SagaMended", "ana")) == 1


def test_a_retry_that_fails_again_is_no_retry_of_the_old_attempt(
    hodei: Hodei, engine: Engine, failed: SagaResult
) -> None:
    said = (str(failed.saga_id), "--step", "take", "--attempt", attempt(hodei, failed, "take"), *WHY)
    assert hodei("saga", "retry", *said).out.strip() == "mended"
    assert engine.orchestrator.drive(failed.saga_id).outcome == "FAILED", "going back, as it failed"
    assert "another one by now" in hodei("saga", "retry", *said).refusal


def test_a_skipped_undo_leaves_its_effect_listed(hodei: Hodei, engine: Engine, failed: SagaResult) -> None:
    assert hodei("saga", "skip", str(failed.saga_id), *WHY).out.strip() == "mended"
    told = hodei("saga", "show", str(failed.saga_id), "--json").json
    assert (told["state"], [one["step"] for one in told["outstanding"]]) == ("COMPENSATED", ["take"])


def test_an_unknown_step_is_not_retried_blindly(hodei: Hodei, engine: Engine) -> None:
    saga = Saga("blind")

    @saga.step(pivot=True, idempotent=False, retry=RetryPolicy(max_attempts=1))
    def charge(ctx: SagaContext) -> None:
        raise RuntimeError("the line went dead")

    @saga.step
    def after(ctx: SagaContext) -> dict[str, object]:
        return {"charge": ctx.outputs["charge"]}

    ended = engine.orchestrator.execute_saga(saga, {})
    assert ended.outcome == "FAILED"
    assert "`force` if it has" in hodei("saga", "retry", str(ended.saga_id), *WHY).refusal
    assert hodei("saga", "force", str(ended.saga_id), "--output", '{"id": 7}', *WHY).code == 0
    result = engine.orchestrator.drive(ended.saga_id)
    assert (result.outcome, result.outputs["after"]) == ("COMPLETED", {"charge": {"id": 7}})


def test_a_paused_saga_rests_until_it_is_resumed(hodei: Hodei, engine: Engine) -> None:
    saga_id = engine.orchestrator.start_saga("order", PAYLOAD)
    assert hodei("saga", "pause", str(saga_id), *WHY).out.strip() == "paused"
    assert hodei("saga", "pause", str(saga_id), *WHY).out.strip() == "already"
    assert hodei("saga", "show", str(saga_id), "--json").json["pause_reason"] == "looked at it"
    refused = engine.store.claim(saga_id, order.steps[0].name, False, saga_id, _somebody())
    assert refused["verdict"] == "paused"
    assert hodei("saga", "resume", str(saga_id), *WHY).out.strip() == "resumed"
    assert engine.orchestrator.drive(saga_id).outcome == "COMPLETED"


def test_what_is_over_or_unknown_is_refused_in_one_line(hodei: Hodei, engine: Engine) -> None:
    done = engine.orchestrator.execute_saga(order, PAYLOAD)
    assert "only a FAILED saga" in hodei("saga", "retry", str(done.saga_id), *WHY).refusal
    assert "has ended already" in hodei("saga", "pause", str(done.saga_id), *WHY).refusal
    assert "there is no saga" in hodei("saga", "skip", "00000000-0000-0000-0000-000000000000", *WHY).refusal
    assert "is no saga id" in hodei("saga", "resume", "soon", *WHY).refusal
    assert hodei("saga", "retry", str(done.saga_id)).code == 2, "no reason given"


def _somebody() -> Claimant:
    return claimant()
