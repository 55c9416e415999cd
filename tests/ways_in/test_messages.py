"""Messages are hints: what they carry, how often they may come, and how long a step may keep one."""

import base64
import json
from typing import TYPE_CHECKING, Any

import pytest
from celery import Celery

from sagas.settings import Settings
from sagas.store.database import connect_engine
from sagas.store.definitions import register
from tests.harness.celery_fixtures import StartBeat, StartSystem, StartWorker
from tests.harness.effects import Effects
from tests.harness.family import relatives
from tests.harness.scenario import STEPS, plan, scenario
from tests.harness.servers import BrokerServer

if TYPE_CHECKING:
    from sagas import SagaClient

pytestmark = [pytest.mark.slow]


@pytest.fixture
def defined(database_url: str) -> None:
    """The scenario is on record, as a worker that ran before has left it."""
    engine = connect_engine(database_url)
    register(engine, [scenario], Settings())
    engine.dispose()


def waiting(broker: BrokerServer, queue: str = "steps") -> list[tuple[dict[str, Any], Any]]:
    """Headers and body of the messages in a queue."""
    with broker.client() as client:
        envelopes = [json.loads(raw) for raw in client.lrange(queue, 0, -1)]
    return [(one["headers"], json.loads(base64.b64decode(one["body"]))) for one in envelopes]


@pytest.mark.usefixtures("defined")
def test_no_message_carries_the_payload(
    start_system: StartSystem, saga_client: "SagaClient", broker_server: BrokerServer, effects: Effects
) -> None:
    """L67: ids travel, data stays in PostgreSQL; neither logs nor events of Celery show it."""
    handle = saga_client.start("scenario", {**plan(two="flaky"), "card": "tok_secret"})
    ((headers, body),) = waiting(broker_server)
    assert "tok_secret" not in json.dumps([headers, body])
    assert (body[1], headers["root_id"]) == ({"saga_id": str(handle.saga_id)}, str(handle.saga_id))
    system = start_system()
    assert handle.result(timeout=30).outcome == "COMPLETED"
    assert "tok_secret" not in "".join(one.log() for one in (system.steps, system.control, system.beat))


@pytest.mark.usefixtures("defined")
def test_the_errback_is_dispatched_as_a_task_of_its_own(saga_client: "SagaClient", broker_server: BrokerServer) -> None:
    """L41: immutable and without Celery's three arguments, at every element of the chain; a hint with an id."""
    handle = saga_client.start("scenario", plan())
    ((_, body),) = waiting(broker_server)
    hops = [body[2], *(hop["options"] | {"errbacks": hop["options"].get("link_error")} for hop in body[2]["chain"])]
    assert len(hops) == len(STEPS)
    for hop in hops:
        (errback,) = hop["errbacks"]
        assert errback["task"] == "sagas.compensate" and errback["immutable"]
        assert (errback["args"], errback["kwargs"]) in (([], {"saga_id": str(handle.saga_id)}),
                                                        ((), {"saga_id": str(handle.saga_id)}))  # fmt: skip


def test_duplicates_of_every_element_of_the_chain(
    start_system: StartSystem, saga_client: "SagaClient", effects: Effects, broker_url: str
) -> None:
    """L42: a crash between publishing and acknowledging repeats all that follows; nothing acts twice."""
    start_system(concurrency=2)
    handles = [saga_client.start("scenario", plan(one="slow:0.2", three="slow:0.2")) for _ in range(3)]
    with Celery("duplicates", broker=broker_url) as client:
        for _ in range(3):
            for handle in handles:
                for step in STEPS:
                    client.send_task(f"scenario.{step}", kwargs={"saga_id": str(handle.saga_id)}, queue="steps")
    for handle in handles:
        assert handle.result(timeout=40).outcome == "COMPLETED"
        assert effects.story(handle.saga_id, ("begin", "effect")) == [
            f"{kind} {step}" for step in STEPS for kind in ("begin", "effect")
        ]


def test_a_message_that_the_broker_gives_away_while_its_step_runs(
    start_worker: StartWorker, start_beat: StartBeat, saga_client: "SagaClient", effects: Effects
) -> None:
    """L43: the visibility timeout is shorter than the step: one begin, one effect."""
    short = {"HODEI_VISIBILITY_TIMEOUT": "2"}
    start_worker(queues=["steps"], concurrency=2, env=short, name="one")
    start_worker(queues=["steps"], concurrency=2, env=short, name="two")
    start_worker(queues=["control", "compensations"], env=short, name="control")
    start_beat()
    handle = saga_client.start("scenario", plan(two="slow:14"))
    assert handle.result(timeout=60).outcome == "COMPLETED"
    assert effects.count("begin", saga_id=handle.saga_id, step="two") == 1


def test_a_step_that_kills_its_process_again_and_again_spends_its_attempts(
    start_system: StartSystem, saga_client: "SagaClient", effects: Effects
) -> None:
    """L45: no endless requeue: the attempts run out, and what it may have done is undone."""
    start_system()
    handle = saga_client.start("scenario", plan(two="die:99"))
    assert handle.result(timeout=60).outcome == "COMPENSATED"
    assert effects.count("begin", saga_id=handle.saga_id, step="two") == 3
    assert effects.story(handle.saga_id, ("undo",)) == ["undo two", "undo one"]


@pytest.mark.saga_modules("tests.harness.family")
def test_children_hold_no_worker(
    start_worker: StartWorker, start_beat: StartBeat, saga_client: "SagaClient", effects: Effects
) -> None:
    """L51: one slot for everything, parents first in the queue: no deadlock."""
    start_worker(concurrency=1)
    start_beat()
    handles = [saga_client.start("family", relatives()) for _ in range(4)]
    assert {handle.result(timeout=60).outcome for handle in handles} == {"COMPLETED"}
