"""The relay itself: killed between claim and publish, without workers, with a broker that is away."""

import sys

import pytest

from sagas.runtime import tasks
from sagas.runtime.relay import relay
from sagas.runtime.tasks import register_engine_tasks
from tests.harness.celery_fixtures import StartSystem
from tests.harness.database import Query
from tests.harness.effects import Effects
from tests.harness.processes import Processes
from tests.harness.servers import BrokerServer
from tests.harness.wait import wait_for
from tests.relay.conftest import HANDLERS, Emit, MakeEngine

pytestmark = [pytest.mark.saga_modules(HANDLERS)]

ONE_TICK = """
from celery import Celery
from sagas.runtime.engine import Engine
from sagas.runtime.relay import relay
from sagas.settings import load

settings = load()
relay(Engine(Celery("killed", broker=settings.broker_url), settings))
"""


@pytest.mark.slow
def test_a_relay_killed_between_claim_and_publish_loses_nothing(
    start_system: StartSystem,
    make_engine: MakeEngine,
    broker_server: BrokerServer,
    celery_environment: dict[str, str],
    processes: Processes,
    emit: Emit,
    effects: Effects,
    query: Query,
) -> None:
    """L70: the claimed rows are found again."""
    make_engine(event_exchange="told")
    numbers = [emit(f"job:{n}") for n in range(3)]
    broker_server.pause()
    killed = processes.start("relay", [sys.executable, "-c", ONE_TICK], celery_environment)
    wait_for(lambda: query.value("SELECT count(*) FROM saga_deliveries WHERE published_at IS NOT NULL") == 3)
    killed.kill()
    broker_server.resume()
    broker_server.flush()
    start_system()
    for number in numbers:
        effects.wait("effect", key=str(number), timeout=20)
    open_ones = "SELECT count(*) FROM saga_deliveries WHERE state = 'OPEN'"
    wait_for(lambda: query.value(open_ones) == 0, 30)


def test_a_backlog_is_not_taken_for_lost(
    make_engine: MakeEngine, broker_server: BrokerServer, emit: Emit, query: Query
) -> None:
    """P13: nobody consumes, and the queue does not grow."""
    engine = make_engine()
    for number in range(30):
        emit(f"job:{number}")
    assert relay(engine).published == 30
    for _ in range(20):
        query("UPDATE saga_deliveries SET look_at = saga_now() - interval '1 s' WHERE published_at IS NOT NULL")
        assert relay(engine).lost == 0
    with broker_server.client() as client:
        assert client.llen("events") == 30


def test_a_reconcile_that_fails_does_not_keep_it_from_its_tick(
    make_engine: MakeEngine, broker_server: BrokerServer, emit: Emit, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One message of beat's is for both."""
    engine = make_engine()
    register_engine_tasks(engine.app, engine)
    emit("job:1")
    monkeypatch.setattr(tasks, "reconcile", lambda _: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        engine.app.tasks["sagas.reconcile"]()
    with broker_server.client() as client:
        assert client.llen("events") == 1


def test_two_relays_send_once(make_engine: MakeEngine, broker_server: BrokerServer, emit: Emit) -> None:
    first, second = make_engine(), make_engine()
    for number in range(10):
        emit(f"job:{number}")
    assert (relay(first).published, relay(second).published) == (10, 0)
    with broker_server.client() as client:
        assert client.llen("events") == 10


def test_messages_carry_ids_only(make_engine: MakeEngine, broker_server: BrokerServer, emit: Emit) -> None:
    relayed = make_engine()
    emit("job:1", do="nothing", secret="hidden")
    relay(relayed)
    with broker_server.client() as client:
        (message,) = client.lrange("events", 0, -1)
    assert b"hidden" not in message and b"delivery_id" in message
