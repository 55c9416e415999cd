"""Copies of Celery's messages, for the next one of a chain: they are as Celery would make them (decision 0016)."""

import base64
import json
import uuid
from collections.abc import Iterator
from contextvars import ContextVar
from functools import wraps
from typing import Any

import pytest
from celery import Celery, Task, signals
from celery.app.amqp import AMQP
from celery.app.task import Context
from kombu import Producer

from sagas.runtime.copies import ALIKE, CHECKED, Next
from sagas.runtime.maker import Raw
from sagas.runtime.outgoing import Outgoing
from tests.harness.servers import BrokerServer

pytestmark = pytest.mark.slow

MANY = 2 * CHECKED


TENANT: ContextVar[str] = ContextVar("tenant", default="")


class Traced(Celery):
    """An app that adds to a message what only that one has, if it has any."""

    def send_task(self, *args: Any, **options: Any) -> Any:
        headers = {"tenant": TENANT.get()} if TENANT.get() else {}
        return super().send_task(*args, **options, headers=headers)


class Schemed(Task):
    abstract = True

    def apply_async(self, *args: Any, **options: Any) -> Any:
        return super().apply_async(*args, **options, headers={"schema": "acme"})


class SchemedB(Schemed):
    name = "order.b"


def make(kind: type[Celery], server: BrokerServer) -> Celery:
    app = kind("outgoing", broker=server.url, set_as_current=False)
    app.conf.update(worker_consumer="sagas.runtime.consumer:PatientConsumer", broker_pool_limit=0)
    return app


@pytest.fixture
def app(broker_server: BrokerServer) -> Iterator[Celery]:
    with make(Celery, broker_server) as app:
        yield app


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


def read(raw: Raw | None) -> tuple[str, dict[str, Any], Any]:
    """Queue, message without what tells it from all others, body."""
    assert raw is not None
    queue, text = raw
    message = json.loads(text)
    uuid.UUID(message["properties"].pop("delivery_tag"))
    return queue, message, json.loads(base64.b64decode(message.pop("body")))


def test_a_copy_is_what_celery_makes(app: Celery, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of chains of different lengths, in any order; Celery makes some of them for ever."""
    outgoing = Outgoing(app)
    by_celery = []
    make_one = outgoing._copies._by_celery

    def note(asked: Any) -> Raw | None:
        by_celery.append(asked)
        return make_one(asked)

    monkeypatch.setattr(outgoing._copies, "_by_celery", note)
    for number in range(MANY):
        asked = request(str(uuid.uuid4()), *("b", "c", "d")[: 1 + number % 3])
        answer = read(outgoing.following(asked))
        assert answer == read(make_one(Next(asked.id, asked.root_id, asked.chain, app.thread_oid)))
        queue, message, (args, kwargs, embed) = answer
        assert (queue, args, kwargs) == ("steps", [], {"saga_id": asked.root_id})
        assert message["headers"]["parent_id"] == asked.id
        assert [hop["options"]["task_id"] for hop in [*(embed["chain"] or []), asked.chain[-1]]] == [
            hop["options"]["task_id"] for hop in asked.chain
        ]
    assert ALIKE + 1 < len(by_celery) < MANY / 10


def tenants_of_later_ones(app: Celery) -> list[str | None]:
    """What ten messages have that are made for a tenant, after ten that had none."""
    outgoing = Outgoing(app)
    for _ in range(10):
        outgoing.following(request(str(uuid.uuid4()), "b"))
    token = TENANT.set("acme")
    try:
        made = [read(outgoing.following(request(str(uuid.uuid4()), "b")))[1] for _ in range(10)]
    finally:
        TENANT.reset(token)
    return [one["headers"].get("tenant") for one in made]


def test_what_the_users_app_adds_to_some_is_in_those(broker_server: BrokerServer) -> None:
    """However many before them had nothing of the kind."""
    with make(Traced, broker_server) as app:
        assert tenants_of_later_ones(app) == ["acme"] * 10


def with_tenant(make_one: Any) -> Any:
    @wraps(make_one)
    def made(*args: Any, **options: Any) -> Any:
        headers = {"tenant": TENANT.get()} if TENANT.get() else {}
        if make_one.__name__ == "publish":
            return make_one(*args, **{**options, "headers": {**options["headers"], **headers}})
        message = make_one(*args, **options)
        message.headers.update(headers)
        return message

    return made


@pytest.mark.parametrize("name", ["publish", "as_task_v2", "create_task_message"])
def test_what_a_patch_adds_to_some_is_in_those(app: Celery, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """As an agent's that traces messages does, wherever in Celery and kombu it sits."""
    whose: Any = {"publish": Producer, "as_task_v2": AMQP}.get(name) or app.amqp  # it keeps the class's as it is then
    monkeypatch.setattr(whose, name, with_tenant(getattr(whose, name)))
    assert tenants_of_later_ones(app) == ["acme"] * 10


def test_a_users_router_is_asked_for_each(app: Celery) -> None:
    urgent = str(uuid.uuid4())

    def route(name: str, args: Any, kwargs: Any, options: Any, task: Any = None, **_: Any) -> dict[str, Any] | None:
        return {"priority": 6} if kwargs["saga_id"] == urgent else None

    app.conf.task_routes = (route,)
    outgoing = Outgoing(app)
    queues = [read(outgoing.following(request(saga_id, "b")))[0] for saga_id in (*map(str, range(10)), urgent)]
    assert queues == ["steps"] * 10 + ["steps\x06\x166"]


def test_a_task_with_a_way_of_its_own_is_left_to_celery(app: Celery) -> None:
    app.register_task(SchemedB())
    outgoing = Outgoing(app)
    assert outgoing.following(request(str(uuid.uuid4()), "b")) is None
    assert outgoing.following(request(str(uuid.uuid4()), "c")) is not None


def test_who_publishes_while_one_is_made_does_not_wait_for_himself(app: Celery) -> None:
    """A listener that starts another saga."""
    outgoing = Outgoing(app)
    inner: list[Any] = []

    def listen(**_: Any) -> None:
        if not inner:
            inner.append("asked")
            inner.append(outgoing.following(request(str(uuid.uuid4()), "b")))

    signals.before_task_publish.connect(listen)
    try:
        assert outgoing.following(request(str(uuid.uuid4()), "b"))
    finally:
        signals.before_task_publish.disconnect(listen)
    assert inner == ["asked", None]


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
        {"task_inherit_parent_priority": True},
        {"task_send_sent_event": True},
        {"broker_url": "redis+socket:///nowhere"},
    ],
)
def test_where_the_worker_would_not_send_it_celery_does(app: Celery, setting: dict[str, Any]) -> None:
    app.conf.update(setting)
    assert Outgoing(app).following(request(str(uuid.uuid4()), "b")) is None


def test_what_an_exchange_finds_is_left_to_celery(app: Celery) -> None:
    """And nobody hears of more than what is sent, once that is known."""
    app.conf.task_routes = {"order.*": {"exchange": "orders", "routing_key": "order"}}
    outgoing = Outgoing(app)
    heard: list[str] = []

    def listen(sender: str, **_: Any) -> None:
        heard.append(sender)

    signals.before_task_publish.connect(listen)
    try:
        made = [outgoing.following(request(str(uuid.uuid4()), "b")) for _ in range(5)]
    finally:
        signals.before_task_publish.disconnect(listen)
    assert made == [None] * 5
    assert heard == ["order.b"]
