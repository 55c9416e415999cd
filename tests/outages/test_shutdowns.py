"""L46, L60: workers stopped, warm and cold, and started again under their own names, in the middle of a load."""

import signal
from typing import TYPE_CHECKING

import pytest

from tests.harness.celery_fixtures import StartSystem
from tests.harness.database import Query
from tests.harness.effects import Effects
from tests.harness.scenario import STEPS, plan
from tests.outages.load import SLOW, Load

if TYPE_CHECKING:
    from sagas import SagaClient

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]


def test_rolling_restarts_spend_no_attempt(
    start_system: StartSystem, saga_client: "SagaClient", query: Query, effects: Effects
) -> None:
    """A warm shutdown ends what runs and gives back the rest; the next worker has the same name."""
    system = start_system(concurrency=2)
    load = Load(saga_client, query, effects, 4)
    for _ in range(3):
        load.wait_until_half(60)
        system.steps.stop(30)
        system.steps.restart()
        system.control.stop(30)
        system.control.restart()
    load.wait()
    assert not load.problems(), "\n".join(load.problems())


@pytest.mark.parametrize("how", [signal.SIGQUIT, signal.SIGKILL], ids=["cold", "killed"])
def test_cold_restarts_lose_and_double_nothing(
    start_system: StartSystem, saga_client: "SagaClient", effects: Effects, how: signal.Signals
) -> None:
    """P4: at-most-once steps whose process ended are verified, never begun again."""
    system = start_system(concurrency=2)
    handles = [saga_client.start("scenario_once", plan(one=SLOW, three=SLOW)) for _ in range(8)]
    for count in (4, 16):
        effects.wait("effect", count, 60)
        if how is signal.SIGKILL:
            system.steps.kill_all()
        else:
            system.steps.kill_main(how)
            system.steps.wait(30)
        system.steps.restart()
    assert {handle.result(timeout=90).outcome for handle in handles} == {"COMPLETED"}
    for handle in handles:
        # Where its process died before the effect, `verify` has said so, and the step was begun once more.
        acted = [effects.count("effect", saga_id=handle.saga_id, step=step) for step in STEPS]
        assert acted == [1, 1, 1, 1], (handle, acted)
