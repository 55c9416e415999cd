"""Real workers: started, killed, restarted; tests and tasks meet on locks."""

import pytest
import redis
from celery import Celery

from tests.harness.celery_fixtures import StartBeat, StartFlower, StartWorker
from tests.harness.effects import Effects
from tests.harness.processes import Processes
from tests.harness.servers import BrokerServer, PostgresServer
from tests.harness.wait import wait_for

APP = "tests.harness_tests.trivial_app"
pytestmark = pytest.mark.database("empty")


@pytest.fixture
def client(broker_url: str) -> Celery:
    return Celery("client", broker=broker_url)


def test_a_task_is_seen_blocked_and_let_go(start_worker: StartWorker, client: Celery, effects: Effects) -> None:
    worker = start_worker(APP)
    with effects.held_lock("gate"):
        client.send_task("trivial.work", ["gate"])
        assert effects.wait_until_blocked("gate") == worker.child_pids()
        assert effects.count("effect") == 0
    effects.wait("effect", key="gate")


def test_two_workers_have_names_queues_and_pools_of_their_own(
    start_worker: StartWorker, client: Celery, effects: Effects
) -> None:
    first, second = start_worker(APP, ["one"], concurrency=2), start_worker(APP, ["two"], name="second")
    assert (first.name, second.name, len(first.child_pids()), len(second.child_pids())) == ("w1", "second", 2, 1)
    client.send_task("trivial.work", ["gate"], queue="two")
    (effect,) = effects.wait("effect")
    assert effect.pid in second.child_pids()


def test_a_killed_machine_does_nothing_more_and_a_restart_has_its_name(
    start_worker: StartWorker, client: Celery, effects: Effects
) -> None:
    worker = start_worker(APP)
    with effects.held_lock("gate"):
        client.send_task("trivial.work", ["gate"])
        (pid,) = effects.wait_until_blocked("gate")
        worker.kill_all()
        wait_for(lambda: not effects.blocked("gate"), message="the dead process's lock request is gone")
    worker.restart()
    client.send_task("trivial.work", ["other"])
    (effect,) = effects.wait("effect")
    assert effect.key == "other" and effect.pid != pid
    assert worker.log().count(f"{worker.nodename} ready.") == 2


def test_a_killed_pool_child_is_replaced(
    start_worker: StartWorker, client: Celery, effects: Effects, processes: Processes
) -> None:
    worker = start_worker(APP)
    with effects.held_lock("gate"):
        client.send_task("trivial.work", ["gate"])
        (pid,) = effects.wait_until_blocked("gate")
        processes.kill(pid)
    wait_for(lambda: len(worker.child_pids()) == 1 and worker.child_pids() != [pid])
    assert worker.running()


def test_a_paused_worker_goes_on(start_worker: StartWorker, client: Celery, effects: Effects) -> None:
    worker = start_worker(APP)
    with effects.held_lock("gate"):
        client.send_task("trivial.work", ["gate"])
        effects.wait_until_blocked("gate")
        worker.pause()
    wait_for(lambda: not effects.blocked("gate"))
    assert effects.count("effect") == 0
    worker.resume()
    effects.wait("effect")


def test_a_lock_holds_while_postgresql_crashes(
    start_worker: StartWorker, client: Celery, effects: Effects, postgres_server: PostgresServer
) -> None:
    start_worker(APP)
    with effects.held_lock("gate"):
        client.send_task("trivial.work", ["gate"])
        blocked = effects.wait_until_blocked("gate")
        postgres_server.kill()
        assert effects.blocked("gate") == blocked
    effects.wait("effect")
    postgres_server.start()


def test_beat_sends(start_worker: StartWorker, start_beat: StartBeat, effects: Effects) -> None:
    start_worker(APP)
    start_beat(APP)
    effects.wait("tick", 2)


def test_flower_answers(start_flower: StartFlower) -> None:
    assert start_flower(APP).startswith("http://127.0.0.1:")


def test_the_broker_is_empty_and_its_own(broker_server: BrokerServer) -> None:
    with redis.Redis.from_url(broker_server.url) as client:
        assert client.dbsize() == 0
