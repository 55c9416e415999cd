"""A server that is away, or no worker at all: one clear error in a few seconds, and nothing half-written."""

import time

import pytest

from sagas import (
    BrokerUnavailable,
    ConfigurationError,
    SagaClient,
    SagaId,
    SagaTimeout,
    StorageUnavailable,
)
from tests.harness.celery_fixtures import StartBeat, StartWorker
from tests.harness.database import Query
from tests.harness.servers import BrokerServer
from tests.ways_in.conftest import PAYLOAD, Ledger

NOWHERE = "redis://127.0.0.1:1/0"
NO_DATABASE = "postgresql://127.0.0.1:1/nothing"
pytestmark = [pytest.mark.slow, pytest.mark.saga_modules("examples.order")]


def test_a_broker_that_is_away() -> None:
    client = SagaClient(NOWHERE)
    began = time.monotonic()
    for ask in (lambda: client.start("order", PAYLOAD), client.handle(SagaId.new()).status):
        with pytest.raises(BrokerUnavailable) as refused:
            ask()
        assert "\n" not in str(refused.value)
    assert time.monotonic() - began < 25


def test_a_broker_without_a_worker(broker_url: str) -> None:
    with pytest.raises(SagaTimeout, match="is one running on queue control"):
        SagaClient(broker_url, timeout=0.5).start("order", PAYLOAD)


def test_a_database_that_is_away_refuses_a_start(broker_url: str) -> None:
    with pytest.raises(StorageUnavailable) as refused:
        SagaClient(broker_url, database_url=NO_DATABASE).start("order", PAYLOAD)
    assert "\n" not in str(refused.value)


def test_a_database_that_is_away_refuses_a_look(broker_url: str) -> None:
    with pytest.raises(StorageUnavailable):
        SagaClient(broker_url, database_url=NO_DATABASE).handle(SagaId.new()).status()


def test_no_broker_at_all_says_what_to_set(monkeypatch: pytest.MonkeyPatch, tmp_path: object) -> None:
    monkeypatch.delenv("HODEI_BROKER_URL", raising=False)
    monkeypatch.setenv("HODEI_HOME", str(tmp_path))
    with pytest.raises(ConfigurationError, match="set HODEI_BROKER_URL"):
        SagaClient()


def test_a_session_needs_a_database(broker_url: str) -> None:
    with pytest.raises(ConfigurationError, match="database_url"):
        SagaClient(broker_url).start("order", PAYLOAD, session=object())


def test_a_row_waits_for_its_broker(
    ledger: Ledger,
    saga_client: SagaClient,
    broker_server: BrokerServer,
    start_worker: StartWorker,
    start_beat: StartBeat,
    query: Query,
) -> None:
    """P1, P2: with a database a start is durable whatever the broker does."""
    worker = start_worker()
    start_beat()
    broker_server.kill()
    handle = saga_client.start("order", PAYLOAD)
    assert query.value("SELECT state FROM saga_instances WHERE saga_id = %s", str(handle.saga_id)) == "PENDING"
    broker_server.start()
    if not worker.running():  # it may have had a message in hand (CELERY.md, 5): its supervisor starts it again
        worker.restart()
    assert handle.result(timeout=60).outcome == "COMPLETED"
    assert ledger() == ["ship", "charge", "reserve"]


def test_refusals_of_a_worker_reach_the_broker_only_client_by_name(
    ledger: Ledger, start_worker: StartWorker, broker_url: str, query: Query
) -> None:
    """What only the worker's side can know: its own limit of payloads, and the database."""
    from sagas import InvalidPayload

    start_worker(env={"HODEI_MAX_PAYLOAD": "1000"})
    with pytest.raises(InvalidPayload, match="more than 1000"):
        SagaClient(broker_url).start("order", {**PAYLOAD, "note": "x" * 2000})
    assert query.value("SELECT count(*) FROM saga_instances") == 0


@pytest.mark.parametrize("bad", ["\ud800", "\x00"])
@pytest.mark.parametrize("kind", ["broker", "database"])
def test_texts_that_postgresql_cannot_store(kind: str, bad: str, broker_url: str, database_url: str) -> None:
    from sagas import InvalidPayload

    client = SagaClient(broker_url, database_url=database_url if kind == "database" else None, timeout=1)
    with pytest.raises(InvalidPayload):
        client.start("order", {**PAYLOAD, "note": bad})


def test_a_backslash_is_no_nul(saga_client: SagaClient, start_worker: StartWorker) -> None:
    """The text `\\u0000`, six characters of it, is an ordinary one."""
    start_worker()
    payload = {**PAYLOAD, "note": "\\u0000"}
    assert saga_client.start("order", payload).result(timeout=30).outcome == "COMPLETED"
