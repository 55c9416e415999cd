"""Copies of Celery's messages: of the next one of a chain, of a saga's first. They are as Celery would make them."""

import base64
import json
import uuid
from collections.abc import Iterator
from typing import Any

import pytest
from celery import Celery, signals
from celery.app.task import Context

from sagas import SagaClient
from sagas.runtime.copies import ALIKE, CHECKED, Next
from sagas.runtime.outgoing import Outgoing
from sagas.runtime.redis_channel import Raw
from sagas.settings import Settings
from sagas.store.database import connect_engine
from sagas.store.definitions import register
from tests.harness.servers import BrokerServer
from tests.store.lab import build

pytestmark = pytest.mark.slow

MANY = 2 * CHECKED


class Traced(Celery):
    """An app that adds to each message what only that one has."""

    def send_task(self, *args: Any, **options: Any) -> Any:
        return super().send_task(*args, **options, headers={"trace": str(uuid.uuid4())})


def make(kind: type[Celery], server: BrokerServer) -> Celery:
    app = kind("outgoing", broker=server.url, set_as_current=False)
    app.conf.update(worker_consumer="sagas.runtime.consumer:PatientConsumer", broker_pool_limit=0)
    return app


@pytest.fixture
def app(broker_server: BrokerServer) -> Iterator[Celery]:
    with make(Celery, broker_server) as app:
        yield app


@pytest.fixture
def defined(database_url: str) -> str:
    """A database that knows a saga of three steps."""
    engine = connect_engine(database_url)
    register(engine, [build("order", a={}, b={}, c={})], Settings())
    engine.dispose()
    return database_url


def request(saga_id: str, *after: str) -> Context:
    """Of a task whose message carries these."""
    help_ = {"task": "sagas.compensate", "kwargs": {"saga_id": saga_id}, "options": {"queue": "compensations"}}
    hops = [
        {
            "task": f"order.{step}",
            "kwargs": {"saga_id": saga_id},
            "options": {"queue": "steps", "task_id": str(uuid.uuid4()), "link_error": [help_], "ignore_result": True},
        }
        for step in after
    ]
    return Context(id=str(uuid.uuid4()), root_id=saga_id, chain=hops[::-1])


def read(raw: list[Raw] | None) -> tuple[str, dict[str, Any], Any]:
    """Queue, message without what tells it from all others, body."""
    assert raw is not None
    ((queue, text),) = raw
    message = json.loads(text)
    uuid.UUID(message["properties"].pop("delivery_tag"))
    return queue, message, json.loads(base64.b64decode(message.pop("body")))


def test_a_copy_is_what_celery_makes(app: Celery, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of chains of different lengths, in any order; Celery makes some of them for ever."""
    outgoing = Outgoing(app)
    by_celery = []
    make_one = outgoing._copies._by_celery

    def note(asked: Any) -> list[Raw]:
        by_celery.append(asked)
        return make_one(asked)

    monkeypatch.setattr(outgoing._copies, "_by_celery", note)
    for number in range(MANY):
        asked = request(str(uuid.uuid4()), *("b", "c", "d")[: 1 + number % 3])
        answer = read(outgoing.following(asked))
        assert answer == read(make_one(Next(asked.id, asked.root_id, asked.chain)))
        queue, message, (args, kwargs, embed) = answer
        assert (queue, args, kwargs) == ("steps", [], {"saga_id": asked.root_id})
        assert message["headers"]["parent_id"] == asked.id
        assert [hop["options"]["task_id"] for hop in [*(embed["chain"] or []), asked.chain[-1]]] == [
            hop["options"]["task_id"] for hop in asked.chain
        ]
    assert ALIKE + 1 < len(by_celery) < MANY / 10


def test_what_differs_from_message_to_message_is_never_copied(broker_server: BrokerServer) -> None:
    with make(Traced, broker_server) as app:
        outgoing = Outgoing(app)
        made = [read(outgoing.following(request(str(uuid.uuid4()), "b")))[1] for _ in range(20)]
    assert len({one["headers"]["trace"] for one in made}) == 20


def test_who_listens_hears_of_each(app: Celery) -> None:
    heard: list[str] = []

    def listen(headers: dict[str, Any], **_: Any) -> None:
        heard.append(headers["id"])

    outgoing = Outgoing(app)
    for _ in range(10):
        outgoing.following(request(str(uuid.uuid4()), "b"))
    signals.before_task_publish.connect(listen)
    try:
        made = [read(outgoing.following(request(str(uuid.uuid4()), "b")))[1] for _ in range(10)]
    finally:
        signals.before_task_publish.disconnect(listen)
    assert heard == [one["headers"]["id"] for one in made]


@pytest.mark.parametrize(
    "setting",
    [
        {"broker_url": "memory://"},
        {"worker_consumer": "celery.worker.consumer:Consumer"},
        {"broker_write_url": "redis://elsewhere:1"},
    ],
)
def test_where_the_worker_would_not_send_it_celery_does(app: Celery, setting: dict[str, str]) -> None:
    app.conf.update(setting)
    assert Outgoing(app).following(request(str(uuid.uuid4()), "b")) is None


def test_a_sagas_first_message_is_a_copy_too(
    defined: str, saga_client: SagaClient, broker_server: BrokerServer
) -> None:
    ids = [str(saga_client.start("order", {}).saga_id) for _ in range(ALIKE + 3)]
    with broker_server.client() as broker:
        texts = [text.decode() for text in broker.lrange("steps", 0, -1)][::-1]
    read_ones = [read([("steps", text)]) for text in texts]
    assert [message["headers"]["root_id"] for _, message, _ in read_ones] == ids
    assert [kwargs for _, _, (_, kwargs, _) in read_ones] == [{"saga_id": one} for one in ids]
    (_, first, (_, _, embed)), *_, (_, last, (_, _, copied)) = read_ones
    for one in (first, last):
        one["properties"]["correlation_id"] = one["headers"]["id"] = one["headers"]["root_id"] = ""
        one["headers"]["kwargsrepr"] = ""
    assert first == last
    assert [hop["task"] for hop in copied["chain"]] == [hop["task"] for hop in embed["chain"]]
    assert {hop["kwargs"]["saga_id"] for hop in [*copied["chain"], *copied["errbacks"]]} == {ids[-1]}


def test_a_broker_that_was_away_gets_first_messages_again(defined: str) -> None:
    """A start does not fail for its message, and the next one's is published."""
    broker = BrokerServer()
    broker.start()
    try:
        client = SagaClient(broker.url, database_url=defined)
        for _ in range(ALIKE + 2):
            client.start("order", {})
        broker.stop()
        client.start("order", {})
        broker.start()
        client.start("order", {})
        with broker.client() as redis:
            assert redis.llen("steps") == 1
    finally:
        broker.stop()
