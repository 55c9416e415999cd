"""Events on their way to a durable topic exchange: any consumer of kombu or AMQP binds a queue of its own to it.

The routing key is `<stream kind>.<event type>` (`saga.SagaCompleted`, `job.JobSucceeded`), the body the event as JSON,
the message's id the event's id: the same for every copy, so that a consumer can drop what it has had.
"""

from __future__ import annotations

import logging
import time
import uuid
from typing import Any

from amqp.exceptions import MessageNacked  # type: ignore[import-untyped]
from kombu import Connection, Exchange, Producer

from sagas.policy import RetryPolicy
from sagas.runtime.engine import Engine
from sagas.runtime.outcomes import Outcome
from sagas.store.relay import RelayStore

log = logging.getLogger(__name__)

BATCH = 200
# Seconds: how long one relay owns a batch. What it did not send by then another one may send.
LEASE = 10.0
CONFIRM = 3.0
RETRY = RetryPolicy(max_attempts=10, max_backoff=60.0)


def publish_events(engine: Engine, store: RelayStore, subscriber: str, exchange: str, until: float) -> int:
    """Publish what is open for one exchange, until `until` (monotonic seconds). How many the broker has taken."""
    done = 0
    while time.monotonic() < until:
        attempt_id = uuid.uuid4()
        began = time.monotonic()
        batch = store.take_for_exchange(subscriber, attempt_id, BATCH, LEASE)
        if not batch:
            break
        sent = _Batch(exchange, min(until + CONFIRM, began + LEASE - 2 * CONFIRM))
        sent.publish(engine, batch)
        done += store.exchange_took(subscriber, attempt_id, sent.taken, sent.failed)
        if sent.stopped or len(batch) < BATCH:
            break
    return done


class _Batch:
    """One batch on one connection. A broker that is away spends no attempt; a message that it refuses does."""

    def __init__(self, exchange: str, until: float) -> None:
        self._exchange = Exchange(exchange, type="topic", durable=True)
        self._until = until
        self._held_up: set[str] = set()
        self.taken: list[int] = []
        self.failed: list[dict[str, Any]] = []
        self.stopped = False

    def publish(self, engine: Engine, batch: list[dict[str, Any]]) -> None:
        # RabbitMQ confirms that it has the message; on Redis the reply to the command says so.
        options = {"confirm_publish": True}
        with engine.app.connection_for_write(transport_options=options) as connection:
            # Of the transport, whatever it is: it knows the broker's exceptions only as lists.
            trouble = (*connection.connection_errors, *connection.recoverable_connection_errors)
            try:
                connection.connect()
                producer = Producer(connection, exchange=self._exchange, serializer="json", auto_declare=True)
            except (*trouble, *connection.channel_errors) as error:
                self._stop(error)
                return
            for one in batch:
                if self.stopped or time.monotonic() > self._until:
                    break
                try:
                    self._publish_one(connection, producer, one)
                except trouble as error:
                    self._stop(error)
            if len(self.failed) > 1 and not self.taken:
                # Not these messages but the broker (its memory is full, say): no attempt is spent.
                self.failed.clear()
                self.stopped = True

    def _publish_one(self, connection: Connection, producer: Producer, one: dict[str, Any]) -> None:
        """Raises what the transport raises when its connection is gone."""
        event = one["event"]
        if event["stream"] in self._held_up:
            return
        try:
            producer.publish(
                {key: value for key, value in event.items() if key != "published_at"},
                routing_key=f"{event['stream'].split(':', 1)[0]}.{event['event_type']}",
                message_id=str(event["event_id"]),
                correlation_id=event["correlation_id"],
                type=event["event_type"],
                headers={"stream": event["stream"], "saga_id": event["saga_id"]},
                delivery_mode=2,
                timeout=CONFIRM,
                confirm_timeout=CONFIRM,
            )
        except MessageNacked as error:
            # A queue that is full, say. The connection is well, though kombu lists it among the errors of one.
            self._refused(one, error)
        except (*connection.connection_errors, *connection.recoverable_connection_errors):
            raise
        # Whatever else a message can do to a transport: it is this message's, and the others go on.
        except Exception as error:  # noqa: BLE001
            self._refused(one, error)
            if isinstance(error, connection.channel_errors):
                # AMQP's way to refuse is to close the channel; the others go out on a new one.
                producer.revive(connection.channel())
        else:
            self.taken.append(one["delivery_id"])

    def _refused(self, one: dict[str, Any], error: Exception) -> None:
        attempt = one["attempt"] + 1
        retry_in = RETRY.delay(attempt) if attempt < RETRY.max_attempts else None
        self._held_up.add(one["event"]["stream"])
        text = Outcome("failed", error=error).stored_error()
        self.failed.append({"delivery_id": one["delivery_id"], "error": text, "retry_in": retry_in})
        log.warning("event %s was refused by the broker: %r", one["event"]["event_id"], error)

    def _stop(self, error: Exception) -> None:
        self.stopped = True
        log.warning("the broker does not take events (%s); they go out when it does", error)
