"""`hodei events parked | retry | drop` on real rows."""

import json
from collections.abc import Callable

import pytest

from sagas.cli import main
from sagas.runtime.engine import Engine
from sagas.runtime.relay import relay
from sagas.store.relay import RelayStore
from tests.harness.database import Query
from tests.harness.servers import BrokerServer
from tests.relay.conftest import Emit
from tests.relay.test_deliveries import claim

Hodei = Callable[..., tuple[int, str, str]]


@pytest.fixture
def hodei(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], engine: Engine) -> Hodei:
    """`hodei("events", "parked") -> (code, out, err)`."""
    monkeypatch.setenv("HODEI_DATABASE_URL", str(engine.settings.database_url))
    monkeypatch.setenv("HODEI_BROKER_URL", str(engine.settings.broker_url))

    def run(*words: str) -> tuple[int, str, str]:
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main(words)
        out, err = capsys.readouterr()
        return int(ended.value.code or 0), out, err

    return run


@pytest.fixture
def parked(engine: Engine, emit: Emit, query: Query) -> list[int]:
    """Two parked deliveries of one stream."""
    store = RelayStore(engine.sql)
    found = []
    for _ in range(2):
        event_id = emit("job:1")
        number = query.value("SELECT delivery_id FROM saga_deliveries WHERE event_id = %s", event_id)
        store.settle_delivery(number, claim(store, number), {"type": "ValueError", "message": "a\nb"}, None)
        found.append(number)
    return found


def told(query: Query) -> list[tuple[str, str | None, str | None]]:
    """What a person did: (event, actor, reason)."""
    rows = query("SELECT event_type, actor, payload FROM saga_events WHERE stream = 'events' ORDER BY event_id")
    return [(row["event_type"], row["actor"], row["payload"].get("reason")) for row in rows][2:]


def test_parked_are_listed(hodei: Hodei, parked: list[int]) -> None:
    code, out, _ = hodei("events", "parked", "--json")
    found = json.loads(out)
    assert code == 0 and [one["delivery_id"] for one in found] == parked
    assert (found[0]["subscriber"], found[0]["error"], found[0]["attempt"]) == ("plain", "ValueError: a\nb", 1)
    _, out, _ = hodei("events", "parked")
    assert len(out.splitlines()) == 3 and "ValueError: a b" in out


def test_retry_sends_it_again(
    hodei: Hodei, parked: list[int], query: Query, broker_server: BrokerServer, engine: Engine
) -> None:
    code, out, _ = hodei("events", "retry", str(parked[0]), "--actor", "ana", "--reason", "mended")
    assert (code, out) == (0, f"{parked[0]} retried\n")
    with broker_server.client() as client:
        assert client.llen("events") == 1
    assert relay(engine).published == 0
    assert told(query) == [("DeliveryRetried", "ana", "mended")]
    assert (
        RelayStore(engine.sql).settle_delivery(parked[0], claim(RelayStore(engine.sql), parked[0]))["verdict"] == "done"
    )


def test_drop_gives_it_up_with_a_reason(hodei: Hodei, parked: list[int], query: Query) -> None:
    code, _, err = hodei("events", "drop", str(parked[0]))
    assert code == 2 and "--reason" in err
    code, out, _ = hodei("events", "drop", *map(str, parked), "--reason", "not wanted", "--json")
    assert code == 0 and [one["verdict"] for one in json.loads(out)] == ["dropped", "dropped"]
    assert told(query) == [("DeliveryDropped", "cli", "not wanted")] * 2
    assert hodei("events", "parked", "--json")[1] == "[]\n"


def test_what_is_not_parked_is_refused_in_one_line(hodei: Hodei, parked: list[int], query: Query) -> None:
    hodei("events", "drop", str(parked[0]), "--reason", "once")
    code, out, err = hodei("events", "retry", str(parked[0]), "999999")
    assert (code, out) == (1, "")
    assert err == (
        f"hodei: delivery {parked[0]} is DROPPED, not PARKED; there is no delivery 999999; see: hodei events parked\n"
    )
    assert len(told(query)) == 1


def test_a_subscriber_whose_code_is_gone_is_forgotten(
    hodei: Hodei, parked: list[int], emit: Emit, query: Query
) -> None:
    emit("job:2")
    found = {one["subscriber"]: one for one in json.loads(hodei("events", "subscribers", "--json")[1])}
    assert (found["plain"]["event_types"], found["plain"]["open"], found["plain"]["parked"]) == (["Happened"], 1, 2)
    assert "elsewhere" in hodei("events", "subscribers")[1]
    code, out, _ = hodei("events", "unsubscribe", "plain", "--reason", "renamed")
    assert (code, out) == (0, "plain unsubscribed, 1 open deliveries dropped\n")
    emit("job:2")
    assert query.value("SELECT count(*) FROM saga_deliveries WHERE state = 'OPEN'") == 0
    assert told(query) == [("SubscriberRemoved", "cli", "renamed")]
    code, _, err = hodei("events", "unsubscribe", "plain", "--reason", "again")
    assert (code, err) == (1, "hodei: there is no subscriber 'plain'; see: hodei events subscribers\n")
