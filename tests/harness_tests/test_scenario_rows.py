"""Every word of the scenario's language on the real system, all rows at once: what ended how, and what it left."""

from typing import TYPE_CHECKING

import pytest

from tests.harness.celery_fixtures import StartSystem
from tests.harness.effects import Effects
from tests.harness.scenario import STEPS, plan

if TYPE_CHECKING:
    from sagas import SagaClient

pytestmark = pytest.mark.slow

ALL = list(STEPS)
# (saga, plan, outcome, steps whose effect is left at the end)
ROWS = [
    ("scenario", plan(two="die"), "COMPLETED", ALL),
    ("scenario", plan(two="die:9"), "COMPENSATED", []),
    ("scenario", plan(two="flaky:2"), "COMPLETED", ALL),
    ("scenario", plan(two="raise"), "COMPENSATED", []),
    ("scenario", plan(two="half"), "COMPENSATED", ["two"]),  # the author's word: a raise means that nothing happened
    ("scenario_careful", plan(two="half"), "COMPENSATED", []),
    ("scenario_once", plan(two="die"), "COMPLETED", ALL),
    ("scenario_once", plan(two="half"), "COMPLETED", ALL),
    ("scenario_blind", plan(two="die"), "COMPENSATED", []),
    ("scenario", plan(four="fail", undo_two="flaky:2"), "COMPENSATED", []),
    ("scenario", plan(four="fail", undo_two="die"), "COMPENSATED", []),
    ("scenario", plan(four="fail", undo_two="raise"), "FAILED", ["one", "two"]),
    ("scenario", plan(three="cancel"), "CANCELLED", []),
    ("scenario", plan(three="notready:2+slow:0.1"), "COMPLETED", ALL),
    ("scenario", plan(three="junk"), "COMPENSATED", []),
    ("scenario_brief", plan(two="hang"), "COMPLETED", ALL),
    ("scenario_brief", plan(two="stall:9"), "COMPENSATED", []),
    ("scenario_brief", plan(three="stall:9"), "COMPENSATED", []),
    ("scenario_pivot", plan(four="flaky:2"), "COMPLETED", ALL),
    ("scenario_pivot", plan(three="fail"), "COMPENSATED", []),
    ("scenario_pivot", plan(four="fail"), "FAILED", ["one", "two", "three"]),
]


def test_every_row_ends_as_it_says(start_system: StartSystem, saga_client: "SagaClient", effects: Effects) -> None:
    start_system(concurrency=4)
    handles = [saga_client.start(saga, payload) for saga, payload, _, _ in ROWS]
    seen = [
        (saga, payload, str(handle.result(timeout=60).outcome), effects.standing(handle.saga_id))
        for (saga, payload, _, _), handle in zip(ROWS, handles, strict=True)
    ]
    assert seen == ROWS


def test_a_non_idempotent_step_runs_once_although_its_process_dies(
    start_system: StartSystem, saga_client: "SagaClient", effects: Effects
) -> None:
    start_system()
    handle = saga_client.start("scenario_once", plan(two="die"))
    assert handle.result(timeout=60).outcome == "COMPLETED"
    assert effects.count("effect", saga_id=handle.saga_id, step="two") == 1
    assert effects.count("verify", saga_id=handle.saga_id) >= 1
