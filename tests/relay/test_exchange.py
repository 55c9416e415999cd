"""Events on a topic exchange, on Redis (kombu's virtual transport) and on RabbitMQ."""

import socket
import uuid
from collections.abc import Iterator
from contextlib import suppress

import pytest
from kombu import Connection, Exchange, Queue

from sagas.runtime.relay import relay
from tests.harness.database import Query
from tests.harness.servers import BrokerServer
from tests.relay.conftest import Emit, MakeEngine

RABBIT = "amqp://guest:guest@127.0.0.1:5672//"


def rabbit_answers() -> bool:
    with suppress(OSError), socket.create_connection(("127.0.0.1", 5672), timeout=2):
        return True
    return False


@pytest.fixture(params=["redis", "rabbitmq"])
def url(request: pytest.FixtureRequest, broker_url: str) -> str:
    if request.param == "redis":
        return broker_url
    if not rabbit_answers():
        pytest.skip("no RabbitMQ on 127.0.0.1:5672")
    return RABBIT


class Consumer:
    """Somebody else's queue, bound to the exchange."""

    def __init__(self, url: str, name: str, routing_key: str, arguments: dict[str, int | str] | None = None) -> None:
        self.connection = Connection(url)
        exchange = Exchange(name, type="topic", durable=True)
        own = f"{name}.{uuid.uuid4().hex}"
        queue = Queue(own, exchange, routing_key=routing_key, queue_arguments=arguments)
        self.queue = queue(self.connection.channel())
        self.queue.declare()

    def read(self) -> list[dict]:
        """All that is there; each message tells its id twice."""
        found = []
        while (message := self.queue.get(no_ack=True)) is not None:
            assert message.properties["message_id"] == str(message.payload["event_id"])
            found.append(message.payload)
        return found

    def close(self) -> None:
        self.queue.delete()
        self.queue.exchange.delete()
        self.connection.release()


@pytest.fixture
def name() -> str:
    return f"test.{uuid.uuid4().hex}"


@pytest.fixture
def consumer(url: str, name: str) -> Iterator[Consumer]:
    consumer = Consumer(url, name, "job.*")
    yield consumer
    consumer.close()


def test_every_event_goes_out_once_in_order_and_by_its_key(
    url: str, name: str, consumer: Consumer, make_engine: MakeEngine, emit: Emit, query: Query
) -> None:
    engine = make_engine(url, event_exchange=name)
    told = [emit(f"job:{n % 3}", "JobDone", n=n) for n in range(20)]
    emit("worker:1", "WorkerGone")
    assert relay(engine).exchanged == 21
    found = consumer.read()
    assert [one["event_id"] for one in found] == told
    assert (found[7]["stream"], found[7]["event_type"], found[7]["payload"]) == ("job:1", "JobDone", {"n": 7})
    assert relay(engine).exchanged == 0 and consumer.read() == []
    assert query.value("SELECT count(*) FROM saga_deliveries WHERE state = 'OPEN'") == 0


def test_only_the_types_that_are_listed(
    url: str, name: str, consumer: Consumer, make_engine: MakeEngine, emit: Emit
) -> None:
    engine = make_engine(url, event_exchange=name, event_exchange_types=("JobDone",))
    done = emit("job:1", "JobDone")
    emit("job:1", "JobSeen")
    assert relay(engine).exchanged == 1
    assert [one["event_id"] for one in consumer.read()] == [done]


def test_a_broker_that_is_away_spends_no_attempt(
    make_engine: MakeEngine, broker_server: BrokerServer, emit: Emit, query: Query
) -> None:
    engine = make_engine(event_exchange="told")
    emit("job:1", "JobDone")
    broker_server.kill()
    for _ in range(3):
        assert relay(engine).exchanged == 0
    broker_server.start()
    assert query("SELECT attempt, state, lease_until FROM saga_deliveries") == [
        {"attempt": 0, "state": "OPEN", "lease_until": None}
    ]
    assert relay(engine).exchanged == 1


def test_two_relays_do_not_mix_up_a_stream(make_engine: MakeEngine, emit: Emit, broker_url: str, name: str) -> None:
    consumer = Consumer(broker_url, name, "#")
    first, second = make_engine(event_exchange=name), make_engine(event_exchange=name)
    told = []
    for _ in range(3):
        told += [emit("job:1", "JobDone") for _ in range(5)]
        relay(first)
        relay(second)
    assert [one["event_id"] for one in consumer.read()] == told
    consumer.close()


def test_without_the_setting_nothing_is_written(make_engine: MakeEngine, emit: Emit, query: Query) -> None:
    make_engine()
    emit("job:1", "JobDone")
    assert query.value("SELECT count(*) FROM saga_deliveries") == 0


def test_what_the_broker_refuses_holds_up_its_own_stream_only(
    name: str, make_engine: MakeEngine, emit: Emit, query: Query
) -> None:
    """L34, with RabbitMQ: a full queue that refuses nacks the messages bound to it."""
    if not rabbit_answers():
        pytest.skip("no RabbitMQ on 127.0.0.1:5672")
    full = Consumer(RABBIT, name, "full.*", {"x-max-length": 1, "x-overflow": "reject-publish"})
    jobs = Consumer(RABBIT, name, "job.*")
    try:
        engine = make_engine(RABBIT, event_exchange=name)
        first, refused, after = (emit(f"full:{n}", "Told") for n in (1, 2, 2))
        told = emit("job:1", "JobDone")
        assert relay(engine).exchanged == 2
        rows = query("SELECT event_id, state, attempt, error IS NOT NULL AS failed FROM saga_deliveries ORDER BY 1")
        assert [tuple(row.values()) for row in rows] == [
            (first, "DONE", 0, False),
            (refused, "OPEN", 1, True),
            (after, "OPEN", 0, False),
            (told, "DONE", 0, False),
        ]
        assert [one["event_id"] for one in full.read()] == [first]
        assert [one["event_id"] for one in jobs.read()] == [told]
        query("UPDATE saga_deliveries SET look_at = saga_now() WHERE state = 'OPEN'")
        assert relay(engine).exchanged == 1
        assert [one["event_id"] for one in full.read()] == [refused]
    finally:
        full.close()
        jobs.close()
