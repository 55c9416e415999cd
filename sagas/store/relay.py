"""The relay's statements: subscriptions, deliveries, and events for exchanges. The rules are in the SQL functions."""

from __future__ import annotations

import uuid
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.exc import OperationalError, ProgrammingError

from sagas.errors import StorageUnavailable
from sagas.events import ANY, Subscriber
from sagas.jsontext import to_json
from sagas.results import DomainEvent
from sagas.settings import Settings
from sagas.store.relay_schema import saga_deliveries, saga_subscriptions
from sagas.store.requests import Claimant
from sagas.store.schema import saga_events
from sagas.store.store import Store
from sagas.store.wire import execute_on, first_line
from sagas.types import SagaId

SETTLE = "SELECT saga_delivery_settle(%s, %s, %s, %s)"


@dataclass(frozen=True)
class Subscription:
    """Who wants which events, and where they go: `kind` is task (`target` is its queue) or exchange (its name)."""

    subscriber: str
    event_types: tuple[str, ...]
    kind: str
    target: str
    max_attempts: int


def subscriptions_of(subscribers: Iterable[Subscriber], settings: Settings) -> list[Subscription]:
    """The rows that say what is wanted here: by tasks, and by the exchange of the settings."""
    found = [Subscription(s.name, s.event_types, "task", s.queue, s.retry.max_attempts) for s in subscribers]
    if settings.event_exchange:
        types = settings.event_exchange_types or (ANY,)
        found.append(Subscription(f"exchange:{settings.event_exchange}", types, "exchange", settings.event_exchange, 1))
    return found


def subscribe(engine: sa.Engine, subscriptions: Iterable[Subscription]) -> None:
    """Write or refresh these subscriptions; what a subscriber no longer wants is taken away. Others stay."""
    wanted = list(subscriptions)
    if not wanted:
        return
    try:
        with engine.begin() as connection:
            for one in sorted(wanted, key=lambda one: one.subscriber):
                _subscribe_one(connection, one)
    except ProgrammingError as error:
        if "saga_subscriptions" in str(error.orig):
            raise StorageUnavailable(
                "the database's engine tables are older than this; run: hodei db upgrade"
            ) from None
        raise
    except OperationalError as error:
        raise StorageUnavailable(f"PostgreSQL does not answer: {first_line(error.orig)}") from error


def _subscribe_one(connection: sa.Connection, one: Subscription) -> None:
    table = saga_subscriptions.c
    values = {"kind": one.kind, "target": one.target, "max_attempts": one.max_attempts}
    stored = connection.execute(sa.select(saga_subscriptions).where(table.subscriber == one.subscriber)).mappings()
    if {row["event_type"]: {key: row[key] for key in values} for row in stored} == dict.fromkeys(
        one.event_types, values
    ):
        return
    gone = (table.subscriber == one.subscriber) & table.event_type.not_in(one.event_types)
    connection.execute(sa.delete(saga_subscriptions).where(gone))
    for event_type in sorted(one.event_types):
        statement = insert(saga_subscriptions).values(subscriber=one.subscriber, event_type=event_type, **values)
        connection.execute(statement.on_conflict_do_update(index_elements=["subscriber", "event_type"], set_=values))


class RelayStore(Store):
    """The store, with the statements of the relay and of subscribers."""

    def claim_delivery(self, delivery_id: int, attempt_id: uuid.UUID, by: Claimant, lease: float) -> dict[str, Any]:
        """`{"verdict": "granted", "attempt", "event"}`, or a verdict that says why not. `lease` is in seconds."""
        process = (by.node, by.host, by.pid, by.started)
        node = str(by.incarnation) if by.incarnation else None
        parameters = (delivery_id, str(attempt_id), *process, lease, node)
        return dict(self._call("SELECT saga_delivery_claim(%s, %s, %s, %s, %s, %s, %s, %s)", parameters))

    def settle_delivery(
        self,
        delivery_id: int,
        attempt_id: uuid.UUID,
        error: dict[str, str] | None = None,
        retry_in: float | None = None,
        *,
        session: Any = None,
    ) -> dict[str, Any]:
        """`{"verdict": done | recorded | retried | parked | late, "publish"}`; with `session` in its transaction."""
        parameters = (delivery_id, str(attempt_id), to_json(error) if error else None, retry_in)
        if session is not None:
            return dict(execute_on(session, SETTLE, parameters))
        return dict(self._call(SETTLE, parameters))

    def give_delivery_back(
        self, delivery_id: int, attempt_id: uuid.UUID, error: dict[str, str] | None, retry_in: float | None
    ) -> dict[str, Any]:
        """As `settle_delivery`, but the attempt is not spent: what was in the way was not the subscriber's fault."""
        parameters = (delivery_id, str(attempt_id), to_json(error) if error else None, retry_in)
        return dict(self._call("SELECT saga_delivery_give_back(%s, %s, %s, %s)", parameters))

    def lose_delivery(self, delivery_id: int, attempt_id: uuid.UUID, why: str) -> dict[str, Any] | None:
        """Write a live claim as lost; the message to be published for it, if any."""
        found = self._call("SELECT saga_delivery_lost(%s, %s, %s)", (delivery_id, str(attempt_id), why))
        return dict(found) if found else None

    def silent_deliveries(self, dead: float) -> list[dict[str, Any]]:
        """`{"delivery_id", "attempt_id", "node"}` of claims whose node has said nothing for `dead` seconds."""
        return list(self._call("SELECT saga_delivery_silent(%s)", (dead,)))

    def send_again(self, delivery_id: int, most: int) -> bool:
        """Whether a lost message is to be sent again; after `most` times that nobody claimed it is parked."""
        return bool(self._call("SELECT saga_delivery_again(%s, %s)", (delivery_id, most), repeat=False))

    def mend_delivery(self, delivery_id: int, verb: str, reason: str | None, actor: str | None) -> dict[str, Any]:
        """A person's `retry` or `drop`: `{"verdict": retried | dropped | not_parked | unknown, "publish"}`."""
        parameters = (delivery_id, verb, reason, actor)
        return dict(self._call("SELECT saga_delivery_mend(%s, %s, %s, %s)", parameters, repeat=False))

    def unsubscribe(self, subscriber: str, reason: str, actor: str | None) -> int | None:
        """Forget a subscriber; how many open deliveries were dropped with it, None if nobody knows it."""
        found = self._call("SELECT saga_unsubscribe(%s, %s, %s)", (subscriber, reason, actor), repeat=False)
        return None if found is None else int(found)

    def relay(self, limit: int) -> tuple[int, list[dict[str, Any]]]:
        """How many deliveries were looked at, and the messages that are due (`known`) or may be lost."""
        found = self._call("SELECT saga_relay(%s)", (limit,))
        return found["looked_at"], list(found["messages"])

    def take_for_exchange(
        self, subscriber: str, attempt_id: uuid.UUID, limit: int, lease: float
    ) -> list[dict[str, Any]] | None:
        """`{"delivery_id", "attempt", "event"}` in order; None while another relay publishes to it."""
        parameters = (subscriber, str(attempt_id), limit, lease)
        found = self._call("SELECT saga_relay_take(%s, %s, %s, %s)", parameters, repeat=False)
        return None if found is None else list(found)

    def exchange_took(
        self, subscriber: str, attempt_id: uuid.UUID, taken: list[int], failed: list[dict[str, Any]]
    ) -> int:
        """Close what the broker has taken, retry or park what failed, free the rest; how many were closed."""
        parameters = (subscriber, str(attempt_id), taken, to_json(failed))
        return int(self._call("SELECT saga_relay_taken(%s, %s, %s::bigint[], %s)", parameters))

    def exchanges(self) -> list[tuple[str, str]]:
        """(subscriber, exchange) of every exchange that has something open."""
        return [
            (row[0], row[1])
            for row in self._rows(
                "SELECT s.subscriber, min(s.target) FROM saga_subscriptions s WHERE s.kind = 'exchange' AND EXISTS"
                " (SELECT FROM saga_deliveries d WHERE d.subscriber = s.subscriber AND d.state = 'OPEN'"
                "  AND d.kind = 'exchange') GROUP BY s.subscriber",
            )
        ]

    def sent_to(self, queues: list[str]) -> dict[str, int]:
        """How many messages should be in each of these queues: sent, and claimed by nobody."""
        rows = self._rows(
            "SELECT target, count(*) FROM saga_deliveries WHERE state = 'OPEN' AND kind = 'task'"
            " AND lease_until IS NULL AND published_at IS NOT NULL AND target = ANY (%s) GROUP BY target",
            (queues,),
        )
        return {row[0]: row[1] for row in rows}

    def delivery_claims_of(self, host: str) -> list[tuple[int, uuid.UUID, int, float]]:
        """(delivery, attempt id, pid, process start) of every live claim whose process is on this host."""
        rows = self._rows(
            "SELECT delivery_id, attempt_id, claim_pid, claim_started FROM saga_deliveries"
            " WHERE lease_until IS NOT NULL AND kind = 'task' AND claim_host = %s AND claim_pid IS NOT NULL",
            (host,),
        )
        return [(a, uuid.UUID(str(b)), c, d) for a, b, c, d in rows]

    def parked(self, limit: int) -> list[dict[str, Any]]:
        """Parked deliveries, the oldest first."""
        d, e = saga_deliveries.c, saga_events.c
        names = ("delivery_id", "subscriber", "event_id", "stream", "attempt", "error", "closed_at")
        query = (
            sa.select(*(d[name] for name in names), e.event_type, e.saga_id)
            .join_from(saga_deliveries, saga_events)
            .where(d.state == "PARKED")
            .order_by(d.delivery_id)
            .limit(limit)
        )
        with self.engine.connect() as connection:
            return [dict(row) for row in connection.execute(query).mappings()]

    def subscribers(self) -> list[dict[str, Any]]:
        """Who wants what, with how many deliveries of theirs are open and parked."""
        rows = self._rows(
            "SELECT s.subscriber, s.kind, s.target, array_agg(s.event_type ORDER BY s.event_type),"
            " (SELECT count(*) FROM saga_deliveries d WHERE d.subscriber = s.subscriber AND d.state = 'OPEN'),"
            " (SELECT count(*) FROM saga_deliveries d WHERE d.subscriber = s.subscriber AND d.state = 'PARKED')"
            " FROM saga_subscriptions s GROUP BY s.subscriber, s.kind, s.target ORDER BY s.subscriber"
        )
        names = ("subscriber", "kind", "target", "event_types", "open", "parked")
        return [dict(zip(names, row, strict=True)) for row in rows]

    def _rows(self, sql: str, parameters: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
        def read(cursor: Any) -> list[tuple[Any, ...]]:
            cursor.execute(sql, parameters)
            return list(cursor.fetchall())

        return self._run(read)


def event_of(row: dict[str, Any]) -> DomainEvent:
    """An event as `to_jsonb` gives it."""
    return DomainEvent(
        event_type=row["event_type"],
        stream=row["stream"],
        payload=row["payload"],
        saga_id=SagaId(row["saga_id"]) if row["saga_id"] else None,
        correlation_id=row["correlation_id"],
        step_name=row["step_name"],
        actor=row["actor"],
        occurred_at=datetime.fromisoformat(row["occurred_at"]),
        event_id=row["event_id"],
    )
