"""P2, L59: the broker forgets all in the middle of many sagas; two beats and two control workers double nothing."""

import os
from typing import TYPE_CHECKING

import pytest

from tests.harness.celery_fixtures import StartBeat, StartSystem, StartWorker
from tests.harness.database import Query
from tests.harness.effects import Effects
from tests.harness.servers import BrokerServer
from tests.outages.load import KINDS, Load

if TYPE_CHECKING:
    from sagas import SagaClient

EACH = int(os.environ.get("HODEI_OUTAGE_SAGAS", "5"))
"""Sagas of each of the five kinds; 40 for the 200 of issue 3."""
PATIENCE = 120 + 3 * EACH

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120 + 2 * PATIENCE)]


def doubled(query: Query) -> list[dict[str, object]]:
    """Events of one attempt, or ends of one saga, that were written twice."""
    return query(
        "SELECT saga_id, event_type, step_name, count(*) FROM saga_events"
        " WHERE event_type ~ '^Saga(Started|Completed|Compensat|Cancelled|Failed)|^Step(Completed|Compensated)'"
        " GROUP BY 1, 2, 3 HAVING count(*) > 1"
    )


def test_a_flushed_broker_costs_time_and_nothing_else(
    start_system: StartSystem,
    saga_client: "SagaClient",
    query: Query,
    effects: Effects,
    broker_server: BrokerServer,
) -> None:
    start_system(concurrency=4)
    load = Load(saga_client, query, effects, EACH)
    load.wait_until_half(PATIENCE)
    with broker_server.client() as client:
        waiting = client.llen("steps")
    broker_server.flush()
    load.wait(PATIENCE)
    print(f"{EACH * len(KINDS)} sagas, {waiting} messages of the steps forgotten")
    assert not load.problems(), "\n".join(load.problems())
    assert doubled(query) == []


def test_two_beats_and_two_control_workers_do_no_work_twice(
    start_system: StartSystem,
    start_worker: StartWorker,
    start_beat: StartBeat,
    saga_client: "SagaClient",
    query: Query,
    effects: Effects,
    broker_server: BrokerServer,
) -> None:
    quick = {"HODEI_RECONCILE_EVERY": "0.2"}
    start_system(concurrency=2, env=quick)
    start_worker(queues=["control", "events", "logs"], name="control2", env=quick)
    start_beat(name="beat2", env=quick)
    load = Load(saga_client, query, effects, EACH)
    load.wait_until_half(PATIENCE)
    broker_server.flush()  # now all of it is reconcile's
    load.wait(PATIENCE)
    assert not load.problems(), "\n".join(load.problems())
    assert doubled(query) == []
    lost = query.value(
        "SELECT count(*) FROM saga_events WHERE event_type IN ('AttemptLost', 'SagaParked', 'LateEffect')"
    )
    assert lost == 0
