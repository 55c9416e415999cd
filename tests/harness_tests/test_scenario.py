"""The scenario saga does what its payload says, and the log tells it."""

import subprocess
import sys
from typing import Any

import pytest

from sagas import NotReady, PermanentError, SagaContext, SagaId
from tests.harness.effects import Effects
from tests.harness.processes import Processes
from tests.harness.scenario import plan, scenario, scenario_once


def context(step: str = "two", **actions: str) -> SagaContext:
    return SagaContext(SagaId.new(), "scenario", step=step, payload=plan(**actions))


def test_a_plain_step_leaves_begin_and_effect(effects: Effects) -> None:
    ctx = context()
    assert scenario.get("two").execute(ctx) == {"step": "two", "attempt": 1, "after": []}
    rows = effects.find(saga_id=ctx.saga_id)
    assert [(row.kind, row.step, row.key) for row in rows] == [
        ("begin", "two", ctx.idempotency_key),
        ("effect", "two", ctx.idempotency_key),
    ]


@pytest.mark.parametrize(
    ("actions", "error", "made"),
    [("fail", PermanentError, 0), ("raise", RuntimeError, 0), ("half", RuntimeError, 1), ("notready", NotReady, 0)],
)
def test_an_error_comes_before_or_after_the_effect(
    actions: str, error: type[Exception], made: int, effects: Effects
) -> None:
    with pytest.raises(error):
        scenario.get("two").execute(context(two=actions))
    assert (effects.count("begin"), effects.count("effect")) == (1, made)


def test_a_flaky_step_gets_better(effects: Effects) -> None:
    ctx = context(two="flaky:2")
    for _ in range(2):
        with pytest.raises(RuntimeError):
            scenario.get("two").execute(ctx)
    scenario.get("two").execute(ctx)
    assert effects.story(ctx.saga_id) == ["effect two"]


def test_an_undo_takes_the_effect_away(effects: Effects) -> None:
    ctx = context(undo_two="effect+flaky")
    scenario.get("two").execute(ctx)
    assert effects.standing(ctx.saga_id) == ["two"]
    with pytest.raises(RuntimeError):
        scenario.get("two").compensate(ctx)
    assert effects.story(ctx.saga_id) == ["effect two", "undo two"]
    assert effects.standing(ctx.saga_id) == []


@pytest.mark.parametrize(("answer", "known"), [("yes", True), ("no", False)])
def test_verify_follows_the_plan_or_the_log(answer: str, known: bool, effects: Effects) -> None:
    probe: Any = scenario_once.get("two").probe
    assert (probe(context(verify_two=answer)) is not None) is known
    ctx = context()
    assert probe(ctx) is None
    scenario_once.get("two").execute(ctx)
    assert probe(ctx) == {"step": "two", "verified": True}
    with pytest.raises(RuntimeError):
        probe(context(verify_two="unknown"))


def test_a_dying_step_has_made_its_effect_and_kills_its_process(effects: Effects, processes: Processes) -> None:
    code = (
        "from tests.harness_tests.test_scenario import context, scenario; "
        "scenario.get('two').execute(context(two='die'))"
    )
    done = subprocess.run([sys.executable, "-c", code], env=processes.environment(), check=False, timeout=60)
    assert done.returncode == -9
    assert [row.kind for row in effects.find()] == ["begin", "effect"]


def test_a_plan_names_steps_that_exist() -> None:
    with pytest.raises(AssertionError, match="undo_five"):
        plan(undo_five="ok")
