"""The scenario saga on the real system: PostgreSQL, Valkey, workers and beat."""

from typing import TYPE_CHECKING

import pytest

from tests.harness.celery_fixtures import StartSystem
from tests.harness.effects import Effects
from tests.harness.processes import Processes
from tests.harness.scenario import STEPS, plan

if TYPE_CHECKING:
    from sagas import SagaClient

pytestmark = [pytest.mark.slow]


def test_a_plain_scenario_completes_and_a_failing_one_goes_back(
    start_system: StartSystem, saga_client: "SagaClient", effects: Effects
) -> None:
    start_system()
    plain = saga_client.start("scenario", plan())
    failing = saga_client.start("scenario", plan(three="fail"))
    assert plain.result(timeout=20).outcome == "COMPLETED"
    assert failing.result(timeout=20).outcome == "COMPENSATED"
    assert effects.story(plain.saga_id) == [f"effect {step}" for step in STEPS]
    assert effects.story(failing.saga_id) == ["effect one", "effect two", "undo two", "undo one"]
    assert effects.standing(failing.saga_id) == []


def test_a_killed_child_is_met_on_a_lock_and_its_step_runs_again(
    start_system: StartSystem, saga_client: "SagaClient", effects: Effects, processes: Processes
) -> None:
    system = start_system()
    with effects.held_lock("gate"):
        handle = saga_client.start("scenario", plan(two="lock:gate"))
        (pid,) = effects.wait_until_blocked("gate")
        assert pid in system.steps.child_pids()
        processes.kill(pid)
    assert handle.result(timeout=30).outcome == "COMPLETED"
    assert effects.count("begin", step="two") == 2
    assert effects.story(handle.saga_id) == [f"effect {step}" for step in STEPS]
