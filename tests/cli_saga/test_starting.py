"""`hodei saga start` and `cancel`: what is written, and that nothing is when they refuse."""

import io
import json
from pathlib import Path

import pytest

from sagas.runtime.engine import Engine
from tests.cli_saga.conftest import PAYLOAD, Hodei
from tests.harness.database import Query

TEXT = json.dumps(PAYLOAD)


def test_start_prints_the_id_of_a_durable_saga(hodei: Hodei, engine: Engine, query: Query) -> None:
    words = ("--payload", TEXT, "--key", "k1", "--correlation-id", "req-7", "--actor", "me")
    saga_id = hodei("saga", "start", "order", *words).out.strip()
    assert hodei("saga", "start", "order", *words, "--json").json == {"saga_id": saga_id}, "one key, one saga"
    (row,) = query("SELECT saga_id, state, idempotency_key, correlation_id, actor, context FROM saga_instances")
    assert row.pop("context")["payload"] == PAYLOAD
    assert row == {
        "saga_id": saga_id,
        "state": "PENDING",
        "idempotency_key": "k1",
        "correlation_id": "req-7",
        "actor": "me",
    }


def test_the_payload_comes_from_a_file_or_from_standard_input(
    hodei: Hodei, engine: Engine, query: Query, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "order.json").write_text(TEXT)
    assert hodei("saga", "start", "order", "--payload", f"@{tmp_path / 'order.json'}").code == 0
    monkeypatch.setattr("sys.stdin", io.StringIO(TEXT))
    assert hodei("saga", "start", "order", "--payload", "-").code == 0
    assert [row["p"] for row in query("SELECT context -> 'payload' AS p FROM saga_instances")] == [PAYLOAD, PAYLOAD]


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["order", "--payload", "{sku}"], "the payload (--payload) is not JSON: "),
        (["order", "--payload", "[1]"], "the payload is a list; a JSON object (a dict) is meant"),
        (["order", "--payload", "@/no/such/file"], "the payload cannot be read from /no/such/file: "),
        (["order", "--payload", '{"x": "%s"}' % ("y" * 300_000)], "the payload has 300009 bytes, more than 262144"),
        (["order", "--payload", '{"x": "\\u0000"}'], "the payload has a NUL character"),
        (["order", "--payload", '{"x": NaN}'], "the payload is not JSON: "),
        (["ordre"], "no saga 'ordre' is defined in this database; start a worker that loads it"),
        (["order", "--key", ""], "the idempotency key of saga order must have 1 to 255 characters"),
    ],
)
def test_what_cannot_be_started_is_one_line_and_writes_nothing(
    hodei: Hodei, engine: Engine, query: Query, words: list[str], line: str
) -> None:
    assert hodei("saga", "start", *words).refusal.startswith(f"hodei: {line}")
    assert query.value("SELECT count(*) FROM saga_instances") == 0


def test_a_key_with_another_payload_is_refused(hodei: Hodei, engine: Engine, query: Query) -> None:
    hodei("saga", "start", "order", "--payload", TEXT, "--key", "k1")
    assert "was started with key 'k1' and another payload" in hodei("saga", "start", "order", "--key", "k1").refusal
    assert query.value("SELECT count(*) FROM saga_instances") == 1


def test_a_broker_that_is_away_is_one_line_and_writes_nothing(
    hodei: Hodei, engine: Engine, query: Query, environment: pytest.MonkeyPatch
) -> None:
    environment.setenv("HODEI_BROKER_URL", "redis://:secret@127.0.0.1:1/0")
    refusal = hodei("saga", "start", "order", "--payload", TEXT).refusal
    assert refusal.startswith("hodei: the broker redis://") and "secret" not in refusal
    assert query.value("SELECT count(*) FROM saga_instances") == 0


def test_a_missing_saga_module_is_one_line(hodei: Hodei, environment: pytest.MonkeyPatch) -> None:
    environment.setenv("HODEI_SAGA_MODULES", "no_such_sagas")
    assert "saga module 'no_such_sagas' cannot be found" in hodei("saga", "start", "order").refusal


def test_cancel_ends_a_waiting_saga_once(hodei: Hodei, engine: Engine, query: Query) -> None:
    saga_id = hodei("saga", "start", "order", "--payload", TEXT).out.strip()
    assert hodei("saga", "cancel", saga_id, "--reason", "customer", "--actor", "me").out == "cancelled\n"
    told = hodei("saga", "show", saga_id, "--json").json
    assert (told["state"], told["error"]) == ("CANCELLED", "Cancelled: customer")
    assert {"CancelRequested", "SagaCancelled"} <= {event["event_type"] for event in told["events"]}
    assert "has ended already" in hodei("saga", "cancel", saga_id).refusal


@pytest.mark.parametrize("words", [["saga", "start"], ["saga", "strat", "order"], ["saga", "list", "--state", "GONE"]])
def test_a_wrong_command_line_is_exit_code_2(hodei: Hodei, words: list[str]) -> None:
    answer = hodei(*words)
    assert answer.code == 2 and "Traceback" not in answer.err
