"""What the workers of the chaos suite load: the scenario sagas, with the attempt's id on each row that they write.

The id ties a row of the effects log to the engine's own `AttemptLost` and `LateEffect`. `CHAOS_PATCH` names modules
(gaps, planted defects) that are loaded in these processes only.
"""

import importlib
import os
from typing import Any

from sagas import Saga, SagaContext
from tests.harness import scenario as scenarios
from tests.harness.effects import record
from tests.harness.scenario import (
    scenario,
    scenario_blind,
    scenario_brief,
    scenario_careful,
    scenario_once,
    scenario_pivot,
)

__all__ = [
    "chaos_family",
    "chaos_hasty",
    "chaos_kid",
    "chaos_prepared",
    "scenario",
    "scenario_blind",
    "scenario_brief",
    "scenario_careful",
    "scenario_once",
    "scenario_pivot",
]


def _note(act: scenarios.Act, kind: str) -> None:
    ctx = act.ctx
    identity = {"attempt_id": str(ctx.attempt_id)}
    record(kind, key=ctx.idempotency_key, saga_id=ctx.saga_id, step=ctx.step, attempt=ctx.attempt, **identity)


scenarios.Act.note = _note  # type: ignore[method-assign, assignment]


def _prepared(ctx: SagaContext) -> Any:
    ctx.prepare_undo({"attempt": ctx.attempt})
    return scenarios.execute(ctx)


def _build_prepared() -> Any:
    body = scenarios.execute
    scenarios.execute = _prepared
    try:
        return scenarios.build("chaos_prepared")
    finally:
        scenarios.execute = body


chaos_prepared = _build_prepared()
chaos_hasty = scenarios.build("chaos_hasty", three={"pivot": True, "undo": False}, four={"undo": False})
chaos_hasty.timeout = 2.5  # seconds: its deadline strikes anywhere


def _build_family() -> Saga:
    """Four steps, the second of which is a saga."""
    family = Saga("chaos_family")
    for name in scenarios.STEPS:
        if name == "two":
            family.child(name, "chaos_kid", payload=lambda ctx: ctx.payload["kid"])
        else:
            step = family.step(name=name, retry=scenarios.PATIENCE, timeout=20)(scenarios.execute)
            step.compensation(retry=scenarios.PATIENCE)(scenarios.undo)
    return family


chaos_kid = scenarios.build("chaos_kid")
chaos_family = _build_family()

for name in filter(None, os.environ.get("CHAOS_PATCH", "").split(",")):
    importlib.import_module(name)
