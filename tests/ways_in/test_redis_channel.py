"""A worker's channel on Redis: what it says there, and what becomes of a message that it holds (decision 0016)."""

import signal as signals
from collections.abc import Iterator
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pytest
from celery import Celery
from kombu import Connection, Message, Queue
from kombu.asynchronous import Hub

from sagas.runtime.consumer import PatientConsumer
from sagas.runtime.copies import on_redis
from sagas.runtime.redis_channel import Transport
from tests.harness.celery_fixtures import SCENARIO, StartBeat, StartWorker
from tests.harness.effects import Effects
from tests.harness.scenario import STEPS, plan
from tests.harness.servers import BrokerServer
from tests.harness.wait import wait_for

if TYPE_CHECKING:
    import redis

    from sagas import SagaClient

pytestmark = [pytest.mark.slow, pytest.mark.saga_modules(SCENARIO, "tests.ways_in.watched")]

BY_MESSAGES = {"HODEI_CONTINUATION_MS": "0"}
TASKS = [f"scenario.{step}" for step in STEPS]


@pytest.fixture
def broker(broker_server: BrokerServer) -> Iterator["redis.Redis"]:
    with broker_server.client() as client:
        yield client


def calls(broker: "redis.Redis", command: str) -> int:
    """Since `CONFIG RESETSTAT`."""
    stats: dict[str, Any] = broker.info("commandstats")
    return int(stats.get(f"cmdstat_{command}", {}).get("calls", 0))


@pytest.mark.parametrize("pool", ["prefork", "threads", "solo"])
def test_a_step_is_taken_from_its_queue_and_the_next_one_put_there(
    pool: str, start_worker: StartWorker, saga_client: "SagaClient", effects: Effects, broker: "redis.Redis"
) -> None:
    """Ids and parents are a chain's."""
    start_worker(pool=pool, env=BY_MESSAGES)
    broker.config_resetstat()
    handle = saga_client.start("scenario", plan())
    assert handle.result(timeout=30).outcome == "COMPLETED"
    wait_for(lambda: len(effects.find("postrun")) == len(STEPS))
    assert calls(broker, "lpush") == len(STEPS)
    begun = [row.detail or {} for row in effects.find("prerun")]
    assert [one["parent"] for one in begun] == [None, *(one["task_id"] for one in begun[:-1])]
    assert {one["root"] for one in begun} == {str(handle.saga_id)}
    wait_for(lambda: broker.hlen("unacked") == 0)


@pytest.mark.saga_modules(SCENARIO, "tests.ways_in.handed")
def test_a_message_is_handed_on_before_the_next_one_is_asked_for(
    start_worker: StartWorker, saga_client: "SagaClient", effects: Effects
) -> None:
    """By Celery alone its process would get it in the event loop's next turn (decision 0021)."""
    start_worker(env=BY_MESSAGES, arguments=("--prefetch-multiplier=4",))
    assert saga_client.start("scenario", plan()).result(timeout=30).outcome == "COMPLETED"
    seen = [row.kind for row in effects.find() if row.kind in ("taken", "handed on", "asked")]
    after = [two for one, two in pairwise(seen) if one == "taken"]
    assert after == ["handed on"] * len(STEPS)


def test_what_takes_time_is_noted_until_it_is_over(
    start_worker: StartWorker, saga_client: "SagaClient", effects: Effects, broker: "redis.Redis"
) -> None:
    start_worker(env=BY_MESSAGES)
    with effects.held_lock("gate"):
        handle = saga_client.start("scenario", plan(two="lock:gate"))
        wait_for(lambda: broker.hlen("unacked") == 1 and broker.zcard("unacked_index") == 1)
    assert handle.result(timeout=30).outcome == "COMPLETED"
    wait_for(lambda: broker.hlen("unacked") == broker.zcard("unacked_index") == 0)


def test_a_worker_that_stops_gives_back_what_it_has_not_begun(
    start_worker: StartWorker, saga_client: "SagaClient", effects: Effects, broker: "redis.Redis"
) -> None:
    """And what follows the step that it ends with is sent."""
    worker = start_worker(env=BY_MESSAGES, arguments=("--prefetch-multiplier=4",))
    with effects.held_lock("gate"):
        handles = [saga_client.start("scenario", plan(one="lock:gate"))]
        effects.wait_until_blocked("gate")
        handles += [saga_client.start("scenario", plan()) for _ in range(2)]
        wait_for(lambda: broker.llen("steps") == 0)
        worker.kill_main(signals.SIGTERM)
        worker.wait_for_log("Warm shutdown")
    assert worker.wait(30) == 0
    assert broker.llen("steps") == len(handles)
    assert broker.hlen("unacked") == 0
    worker.restart()
    assert {one.result(timeout=30).outcome for one in handles} == {"COMPLETED"}


def test_a_worker_whose_connections_break_under_a_step_goes_on(
    start_worker: StartWorker, saga_client: "SagaClient", effects: Effects, broker: "redis.Redis"
) -> None:
    """What it has to say of that step's message belongs to a channel that is gone."""
    worker = start_worker(env=BY_MESSAGES)
    with effects.held_lock("gate"):
        handle = saga_client.start("scenario", plan(one="lock:gate"))
        effects.wait_until_blocked("gate")
        for kind in ("normal", "pubsub"):
            broker.execute_command("CLIENT", "KILL", "TYPE", kind, "SKIPME", "yes")
        worker.wait_for_log("Connection to broker lost")
        wait_for(lambda: worker.log().count("Connected to redis") == 2)
    assert handle.result(timeout=30).outcome == "COMPLETED"
    assert worker.running()
    wait_for(lambda: broker.hlen("unacked") == 0)


def test_what_redis_refuses_is_sent_again(
    start_worker: StartWorker,
    start_beat: StartBeat,
    saga_client: "SagaClient",
    effects: Effects,
    broker: "redis.Redis",
) -> None:
    worker = start_worker(env=BY_MESSAGES)
    with effects.held_lock("gate"):
        handle = saga_client.start("scenario", plan(one="lock:gate"))
        effects.wait_until_blocked("gate")
        broker.execute_command("ACL", "SETUSER", "default", "-lpush")
    try:
        wait_for(lambda: handle.status().current_step == "two")
        worker.wait_for_log("Redis refused a message")
    finally:
        broker.execute_command("ACL", "SETUSER", "default", "+lpush")
    start_beat()
    assert handle.result(timeout=30).outcome == "COMPLETED"


QUICK = "scenario.one"


@pytest.fixture
def looping(broker_server: BrokerServer) -> Iterator[tuple[Connection, Hub]]:
    """A connection as a worker has it, registered with an event loop that the test turns."""
    hub = Hub()
    with Connection(broker_server.url, transport=Transport) as connection:
        connection.transport.saga_tasks = frozenset({QUICK})
        connection.transport.register_with_event_loop(connection.connection, hub)
        hub.propagate_errors = connection.connection_errors
        yield connection, hub
    hub.close()


@pytest.mark.parametrize(("name", "noted"), [(QUICK, 0), ("plain.wait", 3)])
def test_a_sagas_message_that_is_over_soon_is_never_noted(
    name: str, noted: int, looping: tuple[Connection, Hub], broker: "redis.Redis"
) -> None:
    """Any other task's is, as kombu does it: nobody would send it again."""
    connection, hub = looping
    came: list[Message] = []
    with connection.Consumer(Queue("quick"), callbacks=[lambda _, message: came.append(message)]) as consumer:
        producer = connection.Producer()
        for number in range(3):
            producer.publish(number, routing_key="quick", headers={"task": name})
        broker.config_resetstat()
        loop = hub.create_loop()
        wait_for(lambda: next(loop) or len(came) == 3)
        for message in came:
            message.ack()
        next(loop)
        assert [calls(broker, command) for command in ("zadd", "hset", "zrem", "hdel")] == [noted] * 4
        assert consumer.channel.qos.can_consume()
    assert broker.hlen("unacked") == broker.llen("quick") == 0


def test_a_connection_that_the_server_has_closed_is_made_anew(
    looping: tuple[Connection, Hub], broker: "redis.Redis"
) -> None:
    """Servers and proxies close what is idle."""
    connection, hub = looping
    came: list[Message] = []
    with connection.Consumer(Queue("quick"), callbacks=[lambda _, message: came.append(message)]) as consumer:
        qos, producer = consumer.channel.qos, connection.Producer()
        loop = hub.create_loop()
        for number in (1, 2):
            producer.publish(number, routing_key="quick", headers={"task": QUICK})
            wait_for(lambda: next(loop) or len(came) == number)  # noqa: B023 - called at once
            qos.flush()
            assert broker.hlen("unacked") == 1
            came[-1].ack()
            next(loop)
            next(loop)
            assert broker.hlen("unacked") == 0
            host, port = qos._line._connection._sock.getsockname()
            broker.client_kill(f"{host}:{port}")


def test_it_is_ours_after_a_failover_too(broker_server: BrokerServer) -> None:
    """Nobody listens at the first of its URLs."""
    consumer = PatientConsumer.__new__(PatientConsumer)
    consumer.app = Celery("shop", broker=f"redis://127.0.0.1:1/0;{broker_server.url}", set_as_current=False)
    with consumer.connection_for_read() as connection:
        assert connection.connected
        assert isinstance(connection.transport, Transport)
        assert connection.info()["transport"] == "redis"
        assert connection.alt == ["redis://127.0.0.1:1/0", broker_server.url]


@pytest.mark.parametrize(
    ("url", "ours"),
    [
        ("redis://localhost", True),
        ("redis://localhost/1;redis://other/1", True),
        ("rediss://localhost?ssl_cert_reqs=CERT_NONE", False),
        ("sentinel://localhost", False),
        ("amqp://localhost", False),
        ("memory://", False),
    ],
)
def test_other_brokers_are_left_to_kombu(url: str, ours: bool) -> None:
    assert on_redis(Connection(url)) is ours
