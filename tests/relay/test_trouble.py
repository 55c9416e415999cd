"""A database that goes away under a transactional subscriber spends no attempt; what it refuses does."""

from collections.abc import Callable
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.orm import Session

from sagas import DomainEvent, RetryPolicy, on_event
from sagas.events import Subscriber
from sagas.runtime.subscribers import deliver
from sagas.settings import Settings
from sagas.store.relay import RelayStore, subscribe, subscriptions_of
from tests.store.lab import NODE, Lab

Body = Callable[[DomainEvent, Session], None]


def subscribed(lab: Lab, body: Body) -> Subscriber:
    lab.sql("CREATE TABLE written (event_id bigint UNIQUE DEFERRABLE INITIALLY DEFERRED)")

    @on_event("Trouble", transactional=True, name="writer", retry=RetryPolicy(max_attempts=2, backoff=0, jitter=0))
    def writer(event: DomainEvent, session: Session) -> None:
        session.execute(sa.text("INSERT INTO written VALUES (:id)"), {"id": event.event_id})
        body(event, session)

    assert isinstance(writer, Subscriber)
    subscribe(lab.engine, subscriptions_of([writer], Settings()))
    return writer


def emit(lab: Lab) -> int:
    return int(lab.value("SELECT saga_event('job:1', 'Trouble')"))


def delivery(lab: Lab) -> dict[str, Any]:
    return lab.sql("SELECT delivery_id, state, attempt FROM saga_deliveries WHERE subscriber = 'writer'")[0]


def killed_at_work(lab: Lab, session: Session) -> None:
    lab.sql("SELECT pg_terminate_backend(%s, 5000)", session.scalar(sa.text("SELECT pg_backend_pid()")))
    session.execute(sa.text("SELECT 1"))


def killed_before_its_record(lab: Lab, session: Session) -> None:
    lab.sql("SELECT pg_terminate_backend(%s, 5000)", session.scalar(sa.text("SELECT pg_backend_pid()")))


@pytest.mark.parametrize("trouble", [killed_at_work, killed_before_its_record])
def test_a_connection_that_dies_spends_no_attempt(
    lab: Lab, store: RelayStore, trouble: Callable[[Lab, Session], None]
) -> None:
    """Design 6.8."""
    broken = [True]
    writer = subscribed(lab, lambda event, session: trouble(lab, session) if broken[0] else None)
    event_id = emit(lab)
    for _ in range(3):
        outcome, answer = deliver(store, writer, delivery(lab)["delivery_id"], NODE, 20)
        assert (outcome and outcome.kind, answer["verdict"]) == ("not_ready", "retried")
        lab.advance(1.1)
    assert (delivery(lab)["state"], delivery(lab)["attempt"]) == ("OPEN", 0)
    broken[0] = False
    _, answer = deliver(store, writer, delivery(lab)["delivery_id"], NODE, 20)
    assert (answer["verdict"], delivery(lab)["attempt"]) == ("done", 1)
    assert lab.sql("SELECT * FROM written") == [{"event_id": event_id}]


def test_what_the_database_refuses_at_the_end_is_the_subscribers_failure(lab: Lab, store: RelayStore) -> None:
    """P8: a deferred constraint speaks at COMMIT; attempts are spent and the delivery is parked."""
    again = sa.text("INSERT INTO written VALUES (:id)")
    writer = subscribed(lab, lambda event, session: (session.execute(again, {"id": event.event_id}), None)[1])
    emit(lab)
    answers = [deliver(store, writer, delivery(lab)["delivery_id"], NODE, 20)[1]["verdict"] for _ in range(2)]
    assert answers == ["retried", "parked"]
    assert lab.sql("SELECT * FROM written") == []
