"""The ways to start a saga: the client over the broker or over SQL, a transaction of one's own, SQL, a bare message."""

from typing import TYPE_CHECKING, Any

import psycopg2
import pytest
import sqlalchemy as sa
from celery import Celery
from sqlalchemy.orm import Session

from sagas import (
    ConfigurationError,
    IdempotencyKeyReused,
    InvalidPayload,
    SagaClient,
    SagaId,
    SagaNotFound,
    UnknownSaga,
)
from tests.harness.database import Query
from tests.harness.servers import libpq_url
from tests.harness.wait import never, wait_for
from tests.ways_in.conftest import PAYLOAD, Ledger

if TYPE_CHECKING:
    from sagas import SagaHandle

pytestmark = [pytest.mark.slow, pytest.mark.saga_modules("examples.order"), pytest.mark.usefixtures("order_system")]
DONE = ["ship", "charge", "reserve"]
"""The words of an order that went well, book by book."""


@pytest.fixture(params=["broker", "database"])
def client(request: pytest.FixtureRequest, broker_url: str, database_url: str) -> SagaClient:
    """Both kinds: they answer the same."""
    return SagaClient(broker_url, database_url=database_url if request.param == "database" else None)


def outcome(handle: "SagaHandle") -> str:
    return handle.result(timeout=30).outcome


def test_the_client_starts_watches_and_cancels(client: SagaClient, ledger: Ledger, query: Query) -> None:
    good = client.start("order", PAYLOAD, correlation_id="req-7", actor="checkout", metadata={"shop": "Bilbao"})
    result = good.result(timeout=30)
    assert (result.outcome, result.steps_executed, result.compensations_executed) == ("COMPLETED", 3, 0)
    assert result.outputs["reserve_stock"] == {"price": 42}
    assert ledger() == DONE
    status = client.handle(str(good.saga_id)).status()
    assert (status.state, status.current_step, status.error) == ("COMPLETED", None, None)
    assert [step.name for step in status.steps] == ["reserve_stock", "charge_card", "ship"]
    (row,) = query("SELECT correlation_id, actor, context -> 'metadata' AS metadata FROM saga_instances")
    assert row == {"correlation_id": "req-7", "actor": "checkout", "metadata": {"shop": "Bilbao"}}

    bad = client.start("order", {**PAYLOAD, "address": "nowhere"}).result(timeout=30)
    assert (bad.outcome, bad.steps_executed, bad.compensations_executed) == ("COMPENSATED", 3, 2)
    assert bad.error == "PermanentError: there is no way to 'nowhere'"
    assert good.cancel(reason="customer", actor="shop") == "terminal"


def test_a_charge_of_unknown_outcome_is_looked_up_and_not_repeated(client: SagaClient, ledger: Ledger) -> None:
    result = client.start("order", {**PAYLOAD, "card": "tok_timeout"}).result(timeout=30)
    assert (result.outcome, ledger()) == ("COMPLETED", DONE)
    assert result.outputs["charge_card"]["charge"].startswith("ch_")


def test_one_key_is_one_saga(client: SagaClient, query: Query) -> None:
    """P11."""
    first = client.start("order", PAYLOAD, idempotency_key="order-42")
    second = client.start("order", PAYLOAD, idempotency_key="order-42")
    assert first.saga_id == second.saga_id
    with pytest.raises(IdempotencyKeyReused, match="order-42"):
        client.start("order", {**PAYLOAD, "sku": "B2"}, idempotency_key="order-42")
    assert outcome(first) == "COMPLETED"
    assert client.start("order", PAYLOAD, idempotency_key="order-42").saga_id == first.saga_id
    assert query.value("SELECT count(*) FROM saga_instances") == 1


def test_bad_input_is_refused_with_one_line_and_nothing_written(client: SagaClient, query: Query) -> None:
    """P12."""
    with pytest.raises(UnknownSaga, match="'ordre'"):
        client.start("ordre", PAYLOAD)
    for payload in ({"when": object()}, {"x": float("nan")}, {1: "one"}, {"x": "y" * 300_000}, ["sku"]):
        with pytest.raises(InvalidPayload) as refused:
            client.start("order", payload)  # type: ignore[arg-type]
        assert "\n" not in str(refused.value)
    with pytest.raises(InvalidPayload, match="idempotency_key"):
        client.start("order", PAYLOAD, idempotency_key=42)  # type: ignore[arg-type]
    with pytest.raises(SagaNotFound):
        client.handle(SagaId.new()).status()
    assert query.value("SELECT count(*) FROM saga_instances") == 0


@pytest.mark.parametrize("kind", ["session", "connection", "dbapi"])
def test_a_saga_commits_or_rolls_back_with_the_callers_own_rows(
    kind: str, saga_client: SagaClient, database_url: str, query: Query
) -> None:
    """L62."""
    query("CREATE TABLE orders (number int)")
    engine = sa.create_engine(database_url)

    def order(commit: bool) -> SagaId:
        own: Any
        if kind == "dbapi":
            connection = psycopg2.connect(libpq_url(database_url))
            with connection.cursor() as cursor:
                cursor.execute("INSERT INTO orders VALUES (42)")
            own = connection
        else:
            own = Session(engine) if kind == "session" else engine.connect()
            own.execute(sa.text("INSERT INTO orders VALUES (42)"))
        saga_id = saga_client.start("order", PAYLOAD, session=own).saga_id
        assert query.value("SELECT count(*) FROM saga_instances WHERE saga_id = %s", str(saga_id)) == 0
        own.commit() if commit else own.rollback()
        own.close()
        return saga_id

    lost, kept = order(commit=False), order(commit=True)
    engine.dispose()
    assert outcome(saga_client.handle(kept)) == "COMPLETED"
    with pytest.raises(SagaNotFound):
        saga_client.handle(lost).status()
    assert query.value("SELECT count(*) FROM orders") == 1


def test_any_language_starts_one_in_sql(saga_client: SagaClient, database_url: str, ledger: Ledger) -> None:
    connection = psycopg2.connect(libpq_url(database_url))
    with connection, connection.cursor() as cursor:
        ask = """SELECT start_saga('order', '{"sku": "A1", "card": "tok_1"}', 'order-42')"""
        cursor.execute(ask)
        first = cursor.fetchone()
        cursor.execute(ask)
        assert cursor.fetchone() == first
        with pytest.raises(psycopg2.Error, match="no saga 'ordre' is defined"):
            cursor.execute("SELECT start_saga('ordre')")
    # The refusal has spoilt the transaction, as it should: nothing of it was kept.
    with connection, connection.cursor() as cursor:
        cursor.execute(ask)
        (saga_id,) = cursor.fetchall()[0]
    connection.close()
    assert outcome(saga_client.handle(saga_id)) == "COMPLETED"
    assert ledger() == DONE


def test_a_bare_message_starts_one(saga_client: SagaClient, broker_url: str, query: Query, ledger: Ledger) -> None:
    """From any Celery app, with nothing of ours installed: the task's id is the key where none is given."""
    app = Celery("shop", broker=broker_url)
    app.send_task(
        "sagas.start",
        kwargs={"saga_type": "order", "payload": PAYLOAD, "idempotency_key": "order-42"},
        queue="control",
    )
    twice = {"kwargs": {"saga_type": "order", "payload": PAYLOAD}, "queue": "control", "task_id": "one-message"}
    for _ in range(2):
        app.send_task("sagas.start", **twice)
    app.send_task("sagas.start", kwargs={"saga_type": "ordre", "payload": PAYLOAD}, queue="control")

    def ended() -> bool:
        return query.value("SELECT count(*) FROM saga_instances WHERE state = 'COMPLETED'") == 2

    wait_for(ended, 30)
    never(lambda: query.value("SELECT count(*) FROM saga_instances") > 2, 0.5)
    keys = [row["k"] for row in query("SELECT idempotency_key AS k FROM saga_instances")]
    assert sorted(keys) == ["one-message", "order-42"]
    assert sorted(ledger()) == sorted(DONE * 2)


def test_many_are_started_at_once(database_url: str, broker_url: str, query: Query) -> None:
    """In transactions of a hundred; with keys a second try starts none."""
    client = SagaClient(broker_url, database_url=database_url)
    payloads = [{**PAYLOAD, "number": number} for number in range(130)]
    keys = [f"many-{number}" for number in range(130)]
    handles = client.start_many("order", payloads, idempotency_keys=keys, correlation_id="nightly", actor="cron")
    assert len({handle.saga_id for handle in handles}) == 130
    assert {outcome(handle) for handle in handles} == {"COMPLETED"}
    rows = query("SELECT saga_id, (context -> 'payload' ->> 'number')::int AS number, actor FROM saga_instances")
    assert {row["number"]: str(row["saga_id"]) for row in rows} == {
        number: str(handle.saga_id) for number, handle in enumerate(handles)
    }
    assert {row["actor"] for row in rows} == {"cron"}
    again = client.start_many("order", payloads[:5], idempotency_keys=keys[:5])
    assert [one.saga_id for one in again] == [one.saga_id for one in handles[:5]]
    assert client.start_many("order", []) == []


def test_many_are_checked_before_any_is_written(client: SagaClient, database_url: str, query: Query) -> None:
    """P12."""
    with pytest.raises(InvalidPayload):
        client.start_many("order", [PAYLOAD, {"when": object()}])
    with pytest.raises(InvalidPayload, match="1 idempotency_keys for 2 payloads"):
        client.start_many("order", [PAYLOAD, PAYLOAD], idempotency_keys=["one"])
    if client._line.__class__.__name__ == "BrokerLine":
        with pytest.raises(ConfigurationError, match="database_url"):
            client.start_many("order", [PAYLOAD])
    else:
        with pytest.raises(UnknownSaga, match="'ordre'"):
            client.start_many("ordre", [PAYLOAD])
    assert query.value("SELECT count(*) FROM saga_instances") == 0


def test_many_in_the_callers_transaction(database_url: str, broker_url: str, query: Query) -> None:
    """They exist when it commits, and reconcile publishes them."""
    client = SagaClient(broker_url, database_url=database_url)
    engine = sa.create_engine(database_url.replace("postgresql://", "postgresql+psycopg2://"))
    with Session(engine) as session:
        client.start_many("order", [PAYLOAD] * 3, session=session)
        session.rollback()
        assert query.value("SELECT count(*) FROM saga_instances") == 0
        handles = client.start_many("order", [PAYLOAD] * 3, session=session)
        session.commit()
    engine.dispose()
    assert [outcome(handle) for handle in handles] == ["COMPLETED"] * 3
