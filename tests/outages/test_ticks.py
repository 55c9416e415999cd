"""R24: reconcile does not wait behind users' steps, and its ticks do not pile up while nobody takes them."""

import time
from typing import TYPE_CHECKING

import pytest

from tests.harness.celery_fixtures import StartBeat, StartSystem, StartWorker
from tests.harness.database import Query
from tests.harness.effects import Effects
from tests.harness.scenario import plan
from tests.harness.servers import BrokerServer
from tests.harness.wait import wait_for

if TYPE_CHECKING:
    from sagas import SagaClient

pytestmark = [pytest.mark.slow]
AGE = "SELECT extract(epoch FROM saga_now() - reconciled_at)::float FROM engine_state"


def test_every_slot_is_busy_and_reconcile_runs(
    start_system: StartSystem, saga_client: "SagaClient", query: Query, effects: Effects
) -> None:
    """Trace: behind hour-long steps on the same slots it would not run."""
    start_system(concurrency=1)
    with effects.held_lock("long"):
        handles = [saga_client.start("scenario", plan(one="lock:long")) for _ in range(3)]
        effects.wait_until_blocked("long")
        ages = []
        for _ in range(12):
            time.sleep(0.5)
            ages.append(query.value(AGE))
        assert max(ages) < 3.5, ages
    assert {handle.result(timeout=30).outcome for handle in handles} == {"COMPLETED"}


def test_ticks_that_nobody_takes_are_old_news(
    start_worker: StartWorker, start_beat: StartBeat, query: Query, broker_server: BrokerServer
) -> None:
    """Whoever comes after a while does not work through a tick for each second."""
    beat = start_beat()
    wait_for(lambda: beat.log().count("Sending due task sagas.reconcile") >= 14, 40, beat.tail)
    control = start_worker(queues=["control"], name="control")
    with broker_server.client() as client:
        wait_for(lambda: (query.value(AGE) or 99) < 2, 20, "a fresh tick has run")
        wait_for(lambda: client.llen("control") == 0, 20, control.tail)
    assert "Discarding revoked task: sagas.reconcile" in control.log(), control.tail()
