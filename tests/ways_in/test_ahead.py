"""A first message that is made while PostgreSQL writes the saga's rows: Celery's own, and not there before them."""

import json
import multiprocessing
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import ContextVar
from time import sleep
from typing import Any

import pytest
from celery import Celery, signals
from kombu import Exchange, Queue

from sagas import IdempotencyKeyReused, InvalidPayload, SagaClient, StorageUnavailable
from sagas.runtime import ahead, direct, firsts, publish
from sagas.runtime.limits import ROWS_AWAITED
from sagas.store.store import Store
from tests.harness.database import Query
from tests.harness.servers import BrokerServer
from tests.harness.wait import wait_for
from tests.store.lab import build
from tests.ways_in.test_start_many import Messages, body, client_of, shape

pytestmark = pytest.mark.slow

CURRENT: ContextVar[object] = ContextVar("current")
OPTIONS: dict[str, Any] = {"global_keyprefix": "shop:", "queue_order_strategy": "priority"}


@pytest.fixture(autouse=True)
def no_rows_are_late(monkeypatch: pytest.MonkeyPatch) -> None:
    """However slow the machine is: a message that goes out twice would be counted."""
    monkeypatch.setattr(ahead, "LATE", 60.0)


@pytest.fixture
def app(broker_url: str) -> Celery:
    app = Celery("shop", broker=broker_url, set_as_current=False)
    app.conf.update(task_compression="gzip", broker_transport_options=OPTIONS)
    return app


@pytest.fixture
def client(app: Celery, database_url: str) -> SagaClient:
    return client_of(app, database_url, build("ship", a={"queue": "depot.{depot}"}, b={}))


@pytest.fixture
def messages(broker_server: BrokerServer) -> Messages:
    """All messages of the steps, the oldest first."""

    def read() -> list[dict[str, Any]]:
        with broker_server.client() as broker:
            patterns = ("steps*", "depot*", "shop:steps*", "shop:depot*")
            keys = sorted(key for pattern in patterns for key in broker.keys(pattern))
            texts = [text for key in keys for text in broker.lrange(key, 0, -1)[::-1]]
        return [json.loads(text) for text in texts]

    return read


@pytest.fixture
def afterwards(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The sagas whose messages were made when their rows were there."""
    seen: list[str] = []

    def publish_route(app: Celery, saga_id: str, *rest: Any, **options: Any) -> bool:
        seen.append(saga_id)
        return publish.publish_route(app, saga_id, *rest, **options)

    monkeypatch.setattr(ahead, "publish_route", publish_route)
    return seen


def start(client: SagaClient, count: int, **options: Any) -> list[str]:
    return [str(client.start("order", {"n": n}, **options).saga_id) for n in range(count)]


def sagas_of(messages: list[dict[str, Any]]) -> list[str]:
    return [body(one)[1]["saga_id"] for one in messages]


@pytest.mark.parametrize("compression", ["gzip", None])
def test_it_is_celerys_own(
    client: SagaClient,
    messages: Messages,
    afterwards: list[str],
    compression: str | None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As the first two are, which Celery has published: its priority, compression and key, whatever the setting. Copies
    of it, where what is compressed does not hide the ids.
    """
    client.app.conf.task_compression = compression
    monkeypatch.setattr(firsts, "OFTEN", 5)
    started = start(client, 20)
    assert afterwards == started[:2]
    found = messages()
    assert sagas_of(found) == started
    assert len({shape(one) for one in found}) == 1
    assert {one["properties"]["reply_to"] for one in found} == {client.app.thread_oid}
    tasks = [one["headers"]["id"] for one in found] + [hop["options"]["task_id"] for one in found for hop in chain(one)]
    assert len(set(tasks)) == 20 * 3
    assert len({one["properties"]["delivery_tag"] for one in found}) == 20


def chain(message: dict[str, Any]) -> Any:
    return body(message)[2]["chain"]


def test_of_a_start_that_is_refused_there_is_none(
    client: SagaClient, messages: Messages, afterwards: list[str], query: Query
) -> None:
    first = start(client, 3)
    key = client.start("order", {"n": 1}, idempotency_key="k")
    assert client.start("order", {"n": 1}, idempotency_key="k").saga_id == key.saga_id
    with pytest.raises(IdempotencyKeyReused):
        client.start("order", {"n": 2}, idempotency_key="k")
    assert set(sagas_of(messages())) == {*first, str(key.saga_id)}
    assert query.value("SELECT count(*) FROM saga_instances") == 4


def test_who_finds_a_saga_by_its_key_knows_no_less(
    client: SagaClient, messages: Messages, afterwards: list[str]
) -> None:
    start(client, 3)
    key = client.start("order", {"n": 1}, idempotency_key="k")
    assert client.start("order", {"n": 1}, idempotency_key="k").saga_id == key.saga_id
    start(client, 1)
    assert len(messages()) == 5
    assert len(afterwards) == 2


def test_a_reply_that_is_lost(
    client: SagaClient, messages: Messages, afterwards: list[str], query: Query, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Asked again, the saga is there; its message came long before the answer, and goes out once more."""
    start(client, 3)
    monkeypatch.setattr(ahead, "LATE", 0.02)
    run, replies = Store._run, [StorageUnavailable("lost")]

    def lose(self: Store, work: Any) -> Any:
        value = run(self, work)
        if replies:
            sleep(ahead.LATE)
            raise replies.pop()
        return value

    monkeypatch.setattr(Store, "_run", lose)
    fourth = start(client, 1)
    assert sagas_of(messages())[3:] == fourth * 2
    assert query.value("SELECT count(*) FROM saga_instances") == 4
    assert len(afterwards) == 2


@contextmanager
def rows_held_up(query: Query) -> Iterator[None]:
    """In the body no saga's rows are written."""
    with query.connect() as other, other.cursor() as cursor:
        cursor.execute("LOCK TABLE saga_instances IN ACCESS EXCLUSIVE MODE")
        yield
        other.rollback()


def test_the_rows_are_there_before_it(
    client: SagaClient, messages: Messages, afterwards: list[str], query: Query
) -> None:
    """Where there is a key: another saga may have it."""
    start(client, 3)
    with ThreadPoolExecutor(1) as pool:
        with rows_held_up(query):
            fourth = pool.submit(start, client, 1, idempotency_key="k")
            wait_for(lambda: query.value("SELECT count(*) FROM pg_locks WHERE NOT granted") == 1, 10)
            assert len(messages()) == 3
        assert sagas_of(messages() if fourth.result(20) else [])[3:] == fourth.result()
    assert len(afterwards) == 2


def test_it_is_there_before_the_rows(
    client: SagaClient, messages: Messages, afterwards: list[str], query: Query, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And goes out once more where they come so late that whoever got it may have given up; not before them then."""
    start(client, 3)
    monkeypatch.setattr(ahead, "LATE", sum(ROWS_AWAITED) / 2)
    with ThreadPoolExecutor(1) as pool:
        with rows_held_up(query):
            fourth = pool.submit(start, client, 1)
            wait_for(lambda: len(messages()) == 4, 10)
            sleep(ahead.LATE)
        assert sagas_of(messages() if fourth.result(20) else [])[3:] == fourth.result() * 2
        with rows_held_up(query):
            fifth = pool.submit(start, client, 1)
            sleep(2 * ahead.LATE)
            assert len(messages()) == 5
        assert sagas_of(messages() if fifth.result(20) else [])[5:] == fifth.result()
    assert len(afterwards) == 2


def test_the_rows_do_not_wait_for_a_broker_that_hangs(
    app: Celery, client: SagaClient, broker_server: BrokerServer, query: Query
) -> None:
    """Nor for its answer to redis-py's own question after an idle time."""
    app.conf.broker_transport_options = {**OPTIONS, "health_check_interval": 0.1}
    start(client, 3)
    sleep(0.2)
    with ThreadPoolExecutor(1) as pool:
        broker_server.pause()
        try:
            fourth = pool.submit(start, client, 1)
            wait_for(lambda: query.value("SELECT count(*) FROM saga_instances") == 4, 10)
        finally:
            broker_server.resume()
        assert len(fourth.result(20)) == 1


def test_settings_that_change_while_it_runs(
    app: Celery, client: SagaClient, messages: Messages, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Celery is asked again when a pattern has been used so often."""
    monkeypatch.setattr(firsts, "OFTEN", 5)
    app.conf.task_compression = None
    app.conf.broker_transport_options = {}
    start(client, 10)
    app.conf.update(task_routes={"order.*": {"compression": "gzip"}})
    late = set(start(client, 12)[5:])
    assert [sagas_of([one])[0] in late for one in messages()[-7:]] == [True] * 7
    assert {one["headers"].get("compression") for one in messages()[-7:]} == {"application/x-gzip"}


def test_a_broker_that_goes_away_while_rows_are_late(
    client: SagaClient,
    messages: Messages,
    afterwards: list[str],
    query: Query,
    broker_server: BrokerServer,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The message was taken, and is to go out once more: what fails then is a hint, not the start."""
    client.app.conf.task_publish_retry_policy = {"max_retries": 1, "interval_start": 0.0}
    start(client, 3)
    monkeypatch.setattr(ahead, "LATE", 0.0)
    with ThreadPoolExecutor(1) as pool:
        with rows_held_up(query):
            fourth = pool.submit(start, client, 1)
            wait_for(lambda: len(messages()) == 4, 10)
            broker_server.kill()
        assert fourth.result(20) == afterwards[2:]
    assert query.value("SELECT count(*) FROM saga_instances") == 4


def test_a_start_that_fails_is_not_expected_to_do_better_next_time(
    client: SagaClient, messages: Messages, afterwards: list[str], query: Query
) -> None:
    """Its message is nobody's; the next one goes out when its rows are there."""
    for _ in range(3):
        client.start("ship", {"depot": "north"})
    with pytest.raises(InvalidPayload):
        client.start("ship", {})
    (vain,) = sagas_of(messages())[3:]
    assert query.value("SELECT count(*) FROM saga_instances WHERE saga_id::text = %s", vain) == 0
    last = client.start("ship", {"depot": "north"})
    assert afterwards[2:] == [str(last.saga_id)]


def test_who_hears_of_messages_hears_of_what_is_there(
    client: SagaClient, messages: Messages, afterwards: list[str], query: Query
) -> None:
    start(client, 3)
    heard: list[int] = []

    def listen(**_: object) -> None:
        heard.append(query.value("SELECT count(*) FROM saga_instances"))

    signals.before_task_publish.connect(listen)
    try:
        started = start(client, 2)
    finally:
        signals.before_task_publish.disconnect(listen)
    assert heard == [4, 5]
    assert afterwards[2:] == started
    assert len(start(client, 1)) == 1
    assert len(afterwards) == 4


def test_a_queue_that_the_payload_names(
    client: SagaClient, messages: Messages, afterwards: list[str], query: Query
) -> None:
    """What was expected is what the last two had: the saga that is to go elsewhere is another one's, by its id."""
    depots = ["north", "north", "north", "south", "north", "north", "north"]
    started = [str(client.start("ship", {"depot": depot}).saga_id) for depot in depots]
    queues = {body(one)[1]["saga_id"]: one["properties"]["delivery_info"]["routing_key"] for one in messages()}
    # The one that was published before its route was known to be another one: no saga has its id.
    (vain,) = set(queues) - set(started)
    assert queues.pop(vain) == "depot.north"
    assert query.value("SELECT count(*) FROM saga_instances WHERE saga_id::text = %s", vain) == 0
    assert queues == {saga: f"depot.{depot}" for saga, depot in zip(started, depots, strict=True)}
    assert afterwards == [started[number] for number in (0, 1, 3, 4, 5)]


def test_a_queue_that_expires(app: Celery, client: SagaClient, afterwards: list[str]) -> None:
    """Its life is told to Redis with each message, which is kombu's to do."""
    app.amqp.queues.add(Queue("steps", expires=60.0))
    started = start(client, 4)
    assert afterwards == started


def test_a_broker_that_went_away_and_came_back(
    client: SagaClient, messages: Messages, afterwards: list[str], broker_server: BrokerServer, query: Query
) -> None:
    start(client, 3)
    broker_server.kill()
    client.app.conf.task_publish_retry_policy = {"max_retries": 1, "interval_start": 0.0}
    start(client, 1)
    assert query.value("SELECT count(*) FROM saga_instances") == 4
    start(client, 2)
    assert len(afterwards) == 2 + 3, "each of them waits for the broker as Celery does, and once"
    broker_server.start()
    last = start(client, 4)
    assert sagas_of(messages())[-4:] == last
    assert afterwards[-2:] == last[:2]


def test_a_connection_that_redis_has_closed(
    client: SagaClient, messages: Messages, afterwards: list[str], broker_server: BrokerServer
) -> None:
    started = start(client, 3)
    with broker_server.client() as broker:
        broker.client_kill_filter(_type="normal", skipme=True)
    started += start(client, 2)
    assert sagas_of(messages()) == started


def test_many_threads(client: SagaClient, messages: Messages, afterwards: list[str]) -> None:
    client.app.conf.task_compression = None  # a pattern needs no turn at the maker
    before = start(client, 6)
    with ThreadPoolExecutor(16) as pool:
        started = [saga for some in pool.map(lambda _: start(client, 10), range(16)) for saga in some]
    assert sorted(sagas_of(messages())[len(before) :]) == sorted(started)
    assert len(afterwards) == 2


def backend(client: SagaClient) -> int:
    """The process of PostgreSQL's that serves this client's connection."""
    return int(client._line._engine.store._call("SELECT pg_backend_pid()", ()))  # type: ignore[attr-defined]


def asking(client: SagaClient) -> int:
    """The one that serves what is only asked."""
    with client._line._engine.sql.connect() as connection:  # type: ignore[attr-defined]
        return int(connection.exec_driver_sql("SELECT pg_backend_pid()").scalar_one())


def in_a_fork(client: SagaClient, afterwards: list[str], answer: Any) -> None:
    answer.put((start(client, 3), {backend(client), asking(client)}, len(afterwards)))


def test_after_a_fork(client: SagaClient, messages: Messages, afterwards: list[str]) -> None:
    """Its connections are the parent's alone, and stay: also where its pool is full. Its messages name itself, and do
    not wait for what a thread of the parent's held.
    """
    client.app.conf.task_compression = None
    started, pool = start(client, 6), client._line._engine.sql.pool  # type: ignore[attr-defined]
    held = [pool.connect() for _ in range(pool.size())]
    ours = {one.dbapi_connection.info.backend_pid for one in held} | {backend(client)}
    for one in held:
        one.close()
    forking = multiprocessing.get_context("fork")
    answer = forking.Queue()
    child = forking.Process(target=in_a_fork, args=(client, afterwards, answer))
    with client._line._ahead._firsts._copies._lock:  # type: ignore[attr-defined]
        child.start()
    there, its, late = answer.get(timeout=30)
    child.join(30)
    assert child.exitcode == 0
    assert (late, len(afterwards)) == (3, 2), "Celery makes its connection to the broker"
    assert {one["headers"]["origin"].split("@")[0] for one in messages()[6:]} == {f"gen{child.pid}"}
    assert not its & ours
    assert {backend(client), asking(client)} <= ours
    started += there + start(client, 2)
    assert sagas_of(messages()) == started


def test_a_maker_that_fails_holds_up_nobody(
    client: SagaClient, messages: Messages, afterwards: list[str], monkeypatch: pytest.MonkeyPatch, caplog: Any
) -> None:
    started = start(client, 2)
    monkeypatch.setattr(firsts, "hops", lambda *_, **__: 1 / 0)
    started += start(client, 3)
    assert afterwards == started
    assert sagas_of(messages()) == started
    assert "its message is left to Celery" in caplog.text


def test_who_wants_to_stop_leaves_no_answer_behind(
    client: SagaClient, messages: Messages, query: Query, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C while Redis's answer is waited for: the saga is started, and what comes next is not its answer."""
    started = start(client, 4)

    def interrupted(*_: Any, **__: Any) -> Any:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("redis.connection.AbstractConnection.read_response", interrupted)
        with pytest.raises(KeyboardInterrupt):
            start(client, 1)
    assert query.value("SELECT count(*) FROM saga_instances") == 5
    started += start(client, 2)
    assert [one for one in sagas_of(messages()) if one in started] == started


def test_what_an_exchange_does_with_it(
    app: Celery, client: SagaClient, messages: Messages, afterwards: list[str]
) -> None:
    """A copy for an audit, bound by a pattern."""
    app.conf.broker_transport_options = {}
    topic = Exchange("sagas", type="topic")
    app.amqp.queues.add(Queue("depot.topic", topic, routing_key="depot.topic"))
    with app.connection_for_write() as connection:
        Queue("depot.audit", topic, routing_key="#", channel=connection.default_channel).declare()
    started = [str(client.start("ship", {"depot": "topic"}).saga_id) for _ in range(4)]
    assert afterwards == started
    assert sorted(sagas_of(messages())) == sorted(started * 2)


def test_an_app_whose_send_task_is_replaced(
    app: Celery, client: SagaClient, messages: Messages, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is asked when the rows are there, by the thread that starts the saga."""
    started = start(client, 2)
    asked: list[threading.Thread] = []

    def send_task(*words: Any, **options: Any) -> Any:
        asked.append(threading.current_thread())
        return Celery.send_task(app, *words, **options)

    monkeypatch.setattr(app, "send_task", send_task)
    started += start(client, 2)
    assert asked == [threading.current_thread()] * 2
    assert sagas_of(messages()) == started


def test_a_broker_that_cannot_be(database_url: str, client: SagaClient, query: Query) -> None:
    """The saga is started all the same."""
    nowhere = Celery("shop", broker="nosuch://x", set_as_current=False)
    SagaClient(app=nowhere, database_url=database_url).start("order", {})
    assert query.value("SELECT count(*) FROM saga_instances") == 1


def test_elsewhere_celery_publishes(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Callable[..., Any]] = []
    monkeypatch.setattr(ahead, "Ahead", made.append)
    for broker in ("memory://", "amqp://127.0.0.1:1//", "redis+socket:///nowhere"):
        assert direct.DirectLine(Celery("shop", broker=broker, set_as_current=False), database_url)._ahead is None
    assert made == []
