"""The messages of `start_many`: what `start` would have sent, each with ids of its own."""

import base64
import json
import pickle
import re
import zlib
from collections.abc import Callable
from typing import Any
from unittest.mock import Mock

import pytest
from billiard.exceptions import SoftTimeLimitExceeded
from celery import Celery, signals
from kombu import Queue, serialization

from sagas import IdempotencyKeyReused, InvalidPayload, Saga, SagaClient
from sagas.runtime import direct, packs
from sagas.runtime.publish import PACK
from sagas.runtime.stencil import _Stencil
from sagas.runtime.writers import Writers
from sagas.settings import Settings
from sagas.store.database import connect_engine
from sagas.store.definitions import register
from tests.harness.database import Query
from tests.harness.servers import BrokerServer
from tests.store.lab import build

pytestmark = pytest.mark.slow
UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
Messages = Callable[[], list[dict[str, Any]]]


@pytest.fixture
def app(broker_url: str) -> Celery:
    app = Celery("shop", broker=broker_url, set_as_current=False)
    app.conf.task_compression = "gzip"
    return app


def client_of(app: Celery, database_url: str, *further: Saga) -> SagaClient:
    """Where `order` is defined, and these."""
    engine = connect_engine(database_url)
    register(engine, [build("order", a={"priority": 3}, b={}, c={}), *further], Settings())
    engine.dispose()
    return SagaClient(app=app, database_url=database_url)


@pytest.fixture
def client(app: Celery, database_url: str) -> SagaClient:
    return client_of(app, database_url)


@pytest.fixture
def messages(broker_server: BrokerServer) -> Messages:
    """All messages of the steps, the oldest first, with their bodies as they are read from the broker."""

    def read() -> list[dict[str, Any]]:
        with broker_server.client() as broker:
            newest_first = [text for key in sorted(broker.keys("steps*")) for text in broker.lrange(key, 0, -1)]
        return [json.loads(text) for text in reversed(newest_first)]

    return read


def ids(message: dict[str, Any]) -> tuple[str, list[str]]:
    """Its saga, and the tasks of its chain."""
    _, kwargs, embed = body(message)
    return kwargs["saga_id"], [message["headers"]["id"], *(hop["options"]["task_id"] for hop in embed["chain"][::-1])]


def body(message: dict[str, Any], loads: Callable[[bytes], Any] = json.loads) -> Any:
    text = base64.b64decode(message["body"])
    return loads(zlib.decompress(text) if "compression" in message["headers"] else text)


def shape(message: dict[str, Any]) -> str:
    """The message with a name in place of each id, in the order of their appearance."""
    properties = {
        name: value for name, value in message["properties"].items() if name not in ("reply_to", "delivery_tag")
    }
    seen: dict[str, str] = {}
    text = json.dumps([{**message, "body": body(message), "properties": properties}], sort_keys=True)
    return UUID.sub(lambda found: seen.setdefault(found[0], f"id {len(seen)}"), text)


@pytest.fixture
def own(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each saga has its own message."""
    monkeypatch.setattr(packs, "MOST", 1)


def test_one_message_brings_several_where_there_are_many(client: SagaClient, messages: Messages, query: Query) -> None:
    """Each saga by one message, and the rows know by which (decision 0014)."""
    handles = client.start_many("order", [{"number": number} for number in range(330)])
    brought: dict[str, str] = {}
    for message in messages():
        first, _ = ids(message)
        brought |= dict.fromkeys((first, *message["headers"].get(PACK, {"sagas": []})["sagas"]), first)
    assert list(brought) == [str(handle.saga_id) for handle in handles]
    first_ones = set(brought.values())
    assert len(first_ones) == 330 / 5
    rows = query("SELECT saga_id::text, brought_by::text FROM saga_instances")
    assert {row["saga_id"]: row["brought_by"] or row["saga_id"] for row in rows} == brought
    (route,) = {json.dumps(one["headers"][PACK]["route"]) for one in messages()}
    assert [hop["step"] for hop in json.loads(route)] == ["a", "b", "c"]


def test_no_payload_is_an_empty_one(client: SagaClient, query: Query) -> None:
    """As `start` takes it."""
    client.start_many("order", [None, {"n": 1}])  # type: ignore[list-item]
    rows = query("SELECT context -> 'payload' AS payload FROM saga_instances ORDER BY context")
    assert [row["payload"] for row in rows] == [{}, {"n": 1}]


def test_a_few_have_messages_of_their_own(client: SagaClient, messages: Messages) -> None:
    client.start_many("order", [{}] * 127)
    assert len(messages()) == 127


def test_a_key_that_is_taken_stays_with_its_own_message(
    client: SagaClient, messages: Messages, monkeypatch: pytest.MonkeyPatch, query: Query
) -> None:
    """Found again, as first one of its pack or as one of the others: nobody is brought by it, or with it."""
    monkeypatch.setattr(packs, "SPREAD", 1)
    before = {client.start("order", {}, idempotency_key=key).saga_id for key in ("k0", "k5")}
    handles = client.start_many("order", [{}] * 8, idempotency_keys=[f"k{number}" for number in range(8)])
    sent = messages()[2:]
    assert {handles[0].saga_id, handles[5].saga_id} == before
    assert PACK not in "".join(json.dumps(one["headers"]) for one in sent)
    assert [ids(one)[0] for one in sent] == [str(one.saga_id) for one in handles if one.saga_id not in before]


def test_a_key_that_comes_twice_takes_nobody_out_of_its_message(
    client: SagaClient, messages: Messages, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first one's, by the last of those that its message brings."""
    monkeypatch.setattr(packs, "SPREAD", 1)
    handles = client.start_many("order", [{}] * 6, idempotency_keys=["k0", "k1", "k2", "k3", "k1", "k0"])
    started = [str(one.saga_id) for one in handles]
    assert started[4:] == [started[1], started[0]]
    (message,) = messages()
    assert [ids(message)[0], *message["headers"][PACK]["sagas"]] == started[:4]


def test_a_broker_that_went_away_takes_no_saga_with_it(
    client: SagaClient, broker_server: BrokerServer, query: Query
) -> None:
    """They are started when the call returns, whether or not their messages went out: reconcile sends them."""
    client.start_many("order", [{}] * 3)
    broker_server.kill()
    handles = client.start_many("order", [{}] * 3)
    assert len(handles) == 3
    assert query.value("SELECT count(*) FROM saga_instances") == 6


def test_they_are_those_of_start(client: SagaClient, messages: Messages, own: None) -> None:
    one = client.start("order", {"number": 0})
    many = client.start_many("order", [{"number": number} for number in range(1, 205)])
    sent = messages()
    assert [ids(message)[0] for message in sent] == [str(handle.saga_id) for handle in (one, *many)]
    assert {shape(message) for message in sent} == {shape(sent[0])}
    tasks = [task for message in sent for task in ids(message)[1]]
    assert len(tasks) == len(set(tasks)) == 3 * 205, "no id twice"
    assert len({message["properties"]["delivery_tag"] for message in sent}) == 205
    for message in sent:
        saga_id, (first, *_) = ids(message)
        assert (message["headers"]["root_id"], message["properties"]["correlation_id"]) == (saga_id, first)


def test_who_listens_hears_of_each(client: SagaClient, messages: Messages) -> None:
    """An instrumentation adds a header of its own to each message."""
    heard: list[str] = []

    def listen(headers: dict[str, Any], **_: Any) -> None:
        headers["trace"] = f"trace {len(heard)}"
        heard.append(headers["id"])

    signals.before_task_publish.connect(listen)
    try:
        client.start_many("order", [{}] * 4)
        client.start("order", {})
    finally:
        signals.before_task_publish.disconnect(listen)
    assert [(one["headers"]["id"], one["headers"]["trace"]) for one in messages()] == [
        (task_id, f"trace {number}") for number, task_id in enumerate(heard)
    ]
    assert len(heard) == 5


def test_what_is_no_text_is_not_copied(client: SagaClient, app: Celery, messages: Messages) -> None:
    """A serializer that makes bytes."""
    app.conf.task_serializer = "pickle"
    handles = client.start_many("order", [{}] * 3)
    sent = messages()
    read = [body(one, pickle.loads) for one in sent]
    assert [kwargs["saga_id"] for _, kwargs, _ in read] == [str(handle.saga_id) for handle in handles]
    tasks = [hop["options"]["task_id"] for _, _, embed in read for hop in embed["chain"]]
    assert len({*tasks, *(one["headers"]["id"] for one in sent)}) == 9


def test_what_hides_its_ids_is_not_copied(client: SagaClient, app: Celery, messages: Messages) -> None:
    """A serializer that makes text of text, as one that signs or encrypts does."""
    serialization.register(
        "hidden", lambda body: base64.b64encode(json.dumps(body).encode()).decode(), json.loads, "application/x-hidden"
    )
    app.conf.task_serializer = "hidden"
    handles = client.start_many("order", [{}] * 3)
    read = [body(one, lambda text: json.loads(base64.b64decode(text))) for one in messages()]
    assert [kwargs["saga_id"] for _, kwargs, _ in read] == [str(handle.saga_id) for handle in handles]


def test_what_comes_long_after_a_refused_hundred_is_not_started(
    client: SagaClient, messages: Messages, query: Query, own: None
) -> None:
    """Those of the two hundreds after it that are being written are, and have their messages."""
    client.start("order", {"number": -1}, idempotency_key="k50")
    keys = [f"k{number}" for number in range(450)]
    with pytest.raises(IdempotencyKeyReused):
        client.start_many("order", [{"number": number} for number in range(450)], idempotency_keys=keys)
    started = {row["key"] for row in query("SELECT idempotency_key AS key FROM saga_instances")}
    hundreds = [set(keys[first : first + 100]) for first in (100, 200)]
    assert started == {"k50"}.union(*(hundred for hundred in hundreds if hundred & started))
    assert len(messages()) == len(started)


def test_a_signal_while_a_hundred_is_written_leaves_none_without_messages(
    client: SagaClient, messages: Messages, query: Query, own: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Celery's soft time limit: an error that is not the hundred's own."""

    class Interrupted(Writers):
        def submit(self, work: Callable[[], Any]) -> Any:
            future = super().submit(work)
            if not futures:
                monkeypatch.setattr(future, "result", Mock(side_effect=[SoftTimeLimitExceeded(), future.result()]))
            futures.append(future)
            future.exception()  # each of them is written
            return future

    futures: list[Any] = []
    monkeypatch.setattr(direct, "Writers", Interrupted)
    with pytest.raises(SoftTimeLimitExceeded):
        client.start_many("order", [{}] * 450)
    started = query("SELECT saga_id::text AS id FROM saga_instances")
    assert len(started) == 300
    assert {ids(message)[0] for message in messages()} == {row["id"] for row in started}


def test_a_soft_time_limit_while_messages_go_out_ends_the_call(
    client: SagaClient, query: Query, own: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is the caller's task's own, and no trouble of the broker."""
    monkeypatch.setattr(_Stencil, "publish", Mock(side_effect=SoftTimeLimitExceeded()))
    with pytest.raises(SoftTimeLimitExceeded):
        client.start_many("order", [{}] * 900)
    assert query.value("SELECT count(*) FROM saga_instances") <= 400


def test_a_message_that_is_refused_stops_none_of_another_queue(
    app: Celery, database_url: str, messages: Messages, query: Query, own: None
) -> None:
    """An app that names its queues, and makes no others."""
    app.conf.update(task_create_missing_queues=False, task_queues=[Queue("steps.good"), Queue("compensations")])
    client = client_of(app, database_url, build("hosted", a={"queue": "steps.{host}"}))
    hosts = ["good", "bad"] * 20
    client.start_many("hosted", [{"host": host} for host in hosts])
    assert query.value("SELECT count(*) FROM saga_instances") == 40
    assert len(messages()) == 20


def test_a_broker_that_is_away_from_the_first_is_asked_once_a_hundred(
    client: SagaClient, broker_server: BrokerServer, query: Query, own: None, caplog: pytest.LogCaptureFixture
) -> None:
    """Each message would wait for it by itself."""
    broker_server.kill()
    assert len(client.start_many("order", [{}] * 250)) == 250
    assert query.value("SELECT count(*) FROM saga_instances") == 250
    assert caplog.text.count("not published") == 3


def test_a_broker_that_cannot_be_takes_no_saga_with_it(client: SagaClient, database_url: str, query: Query) -> None:
    """As `start` has it."""
    client = SagaClient("nosuch://nowhere", database_url=database_url)
    client.start("order")
    assert len(client.start_many("order", [{}] * 3)) == 3
    assert query.value("SELECT count(*) FROM saga_instances") == 4


@pytest.mark.parametrize(
    ("keys", "payload", "shared", "named"),
    [
        (["good", "\udc80"], {}, {}, "idempotency_key is"),
        (["good", "a\x00"], {}, {}, "idempotency_key is"),
        (None, {}, {"actor": "\udc80"}, "actor is"),
        (None, {}, {"metadata": {"a": object()}}, "the metadata is not JSON"),
        (None, {}, {"metadata": {"a": "\udc80"}}, "the metadata has half of a surrogate pair"),
        (None, {"numbers": [1] * 100_000}, {}, "the payload has 300013 bytes, more than 262144"),
    ],
    ids=["half a character", "NUL", "half an actor", "no JSON", "half a value", "blanks in jsonb"],
)
def test_what_postgresql_cannot_store_is_found_before_any_is_written(
    client: SagaClient,
    query: Query,
    keys: list[str] | None,
    payload: dict[str, Any],
    shared: dict[str, Any],
    named: str,
) -> None:
    """In the second hundred."""
    ours = None if keys is None else [*(f"{keys[0]}{number}" for number in range(149)), keys[1]]
    with pytest.raises(InvalidPayload, match=named):
        client.start_many("order", [*[{}] * 149, payload], idempotency_keys=ours, **shared)
    with pytest.raises(InvalidPayload, match=named):
        client.start("order", payload, idempotency_key=keys[1] if keys else None, **shared)
    assert query.value("SELECT count(*) FROM saga_instances") == 0


def test_a_key_that_comes_again_a_hundred_later(
    client: SagaClient, messages: Messages, query: Query, own: None
) -> None:
    """Both are written at once, each has keys of the other, in another order: one saga a key, whoever is first."""
    keys = [f"k{number}" for number in range(100)]
    payloads = [{"number": number} for number in range(100)]
    handles = client.start_many("order", payloads + payloads[::-1], idempotency_keys=keys + keys[::-1])
    assert [str(one.saga_id) for one in handles[:100]] == [str(one.saga_id) for one in handles[100:][::-1]]
    assert query.value("SELECT count(*) FROM saga_instances") == 100
    assert len(messages()) == 100
