"""Events for an exchange, in the store alone: one relay at a time, in order, marks of the old one refused."""

import uuid

import pytest

from sagas.store.relay import RelayStore, Subscription, subscribe
from tests.relay.test_deliveries import emit
from tests.store.lab import Lab

NAME = "exchange:all"


@pytest.fixture(autouse=True)
def exchange(lab: Lab) -> None:
    subscribe(lab.engine, [Subscription(NAME, ("Told",), "exchange", "all", 1)])


def take(store: RelayStore, limit: int = 100) -> tuple[uuid.UUID, list[dict] | None]:
    attempt = uuid.uuid4()
    return attempt, store.take_for_exchange(NAME, attempt, limit, 10.0)


def ids(batch: list[dict] | None) -> list[int]:
    assert batch is not None
    return [one["event"]["event_id"] for one in batch]


def test_in_order_and_one_relay_at_a_time(lab: Lab, store: RelayStore) -> None:
    told = [emit(lab, f"job:{n % 2}", "Told") for n in range(4)]
    attempt, batch = take(store, 3)
    assert ids(batch) == told[:3]
    assert take(store)[1] is None
    assert store.exchange_took(NAME, attempt, [one["delivery_id"] for one in batch or []], []) == 3
    assert ids(take(store)[1]) == told[3:]


def test_a_relay_that_died_with_a_batch_loses_nothing_and_its_marks_are_refused(lab: Lab, store: RelayStore) -> None:
    """L70."""
    emit(lab, event_type="Told")
    attempt, batch = take(store)
    lab.advance(10.1)
    _, again = take(store)
    assert ids(again) == ids(batch)
    assert store.exchange_took(NAME, attempt, [one["delivery_id"] for one in batch or []], []) == 0
    assert lab.value("SELECT state FROM saga_deliveries") == "OPEN"


def test_a_refused_one_holds_up_its_stream_until_it_is_parked(lab: Lab, store: RelayStore) -> None:
    poison, after, other = emit(lab, "job:1", "Told"), emit(lab, "job:1", "Told"), emit(lab, "job:2", "Told")
    attempt, batch = take(store)
    assert batch is not None
    refused = {"delivery_id": batch[0]["delivery_id"], "error": {"type": "E", "message": "m"}, "retry_in": 60.0}
    assert store.exchange_took(NAME, attempt, [batch[2]["delivery_id"]], [refused]) == 1
    assert take(store)[1] == []
    lab.advance(61)
    attempt, batch = take(store)
    assert ids(batch) == [poison, after] and batch is not None and batch[0]["attempt"] == 1
    assert store.exchange_took(NAME, attempt, [], [{**refused, "retry_in": None}]) == 0
    assert ids(take(store)[1]) == [after]
    states = lab.sql("SELECT state FROM saga_deliveries ORDER BY event_id")
    assert [row["state"] for row in states] == ["PARKED", "OPEN", "DONE"]
    assert other
