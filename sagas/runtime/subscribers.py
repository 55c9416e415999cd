"""Celery tasks that subscribe to events: claim the delivery, call the function, close the row."""

from __future__ import annotations

import importlib
import logging
import socket
import uuid
from collections.abc import Iterable, Mapping
from typing import Any

from billiard.exceptions import SoftTimeLimitExceeded
from celery import Celery
from celery.exceptions import Retry
from kombu.exceptions import OperationalError

from sagas.errors import DefinitionError, StepTimeLimit
from sagas.events import Subscriber
from sagas.registry import Registry
from sagas.runtime.engine import Engine
from sagas.runtime.limits import CLAIM_PATIENCE, COMMIT_PATIENCE, calm, message_limit, patiently, time_limit
from sagas.runtime.outcomes import Outcome
from sagas.runtime.process import claimant
from sagas.runtime.publish import task_name
from sagas.runtime.transaction import together
from sagas.settings import LEASE_MARGIN
from sagas.store.relay import RelayStore, event_of
from sagas.store.requests import Claimant

log = logging.getLogger(__name__)

EVENTS = "events"


def find_subscribers(modules: Iterable[str], registry: Registry) -> tuple[Subscriber, ...]:
    """Every subscriber among the names of these modules, which are loaded already. Raises DefinitionError."""
    found: dict[str, Subscriber] = {}
    for module in modules:
        for value in list(vars(importlib.import_module(module)).values()):
            if isinstance(value, Subscriber) and found.setdefault(value.name, value) is not value:
                raise DefinitionError(f"subscriber {value.name!r} is defined twice; give one of them name=...")
    steps = {task_name(saga.name, step.name, False) for saga in registry for step in saga.steps}
    for one in found.values():
        if one.task_name in steps:
            raise DefinitionError(f"the task {one.task_name} is both a step and a subscriber; rename one of them")
    return tuple(found.values())


def register_subscriber_tasks(app: Celery, engine: Engine) -> None:
    """One task for each subscriber: `events.<name>`."""
    for subscriber in engine.subscribers:
        _register(app, engine, subscriber)


def _register(app: Celery, engine: Engine, subscriber: Subscriber) -> None:
    limit = subscriber.timeout or engine.settings.step_timeout

    @app.task(
        name=subscriber.task_name,
        bind=True,
        shared=False,
        acks_late=True,
        reject_on_worker_lost=False,
        ignore_result=True,
        store_errors_even_if_ignored=False,
        time_limit=message_limit(limit),
        max_retries=None,
    )
    def handle(self: Any, delivery_id: int, saga_id: str | None = None) -> None:
        by = claimant(self.request.hostname or f"celery@{socket.gethostname()}", engine.incarnation)
        outcome, answer = deliver(RelayStore(engine.sql), subscriber, delivery_id, by, limit)
        publish_delivery(app, answer.get("publish"))
        _show(outcome, answer)


def deliver(
    store: RelayStore, subscriber: Subscriber, delivery_id: int, by: Claimant, limit: float
) -> tuple[Outcome | None, dict[str, Any]]:
    """One attempt at one delivery; `limit` is in seconds. None if it was not granted. Raises StorageUnavailable."""
    attempt_id = uuid.uuid4()
    lease = limit + LEASE_MARGIN
    claim = patiently(lambda: store.claim_delivery(delivery_id, attempt_id, by, lease), CLAIM_PATIENCE)
    if claim["verdict"] != "granted":
        log.info("delivery %s to %s: claim refused, %s", delivery_id, subscriber.name, claim["verdict"])
        return None, claim
    event = event_of(claim["event"])
    attempt = claim["attempt"]
    answer: dict[str, Any] = {}
    if subscriber.transactional:
        outcome, answer = together(
            store.engine,
            limit,
            lambda session: _call(subscriber, limit, attempt, event, session),
            lambda session, _: store.settle_delivery(delivery_id, attempt_id, session=session),
            lambda error: _failed(subscriber, error, attempt),
        )
    else:
        outcome = _call(subscriber, limit, attempt, event)
    if not answer:
        settle = store.give_delivery_back if outcome.kind == "not_ready" else store.settle_delivery
        answer = patiently(
            lambda: settle(delivery_id, attempt_id, outcome.stored_error(), outcome.retry_in), COMMIT_PATIENCE
        )
    if answer["verdict"] in ("late", "parked"):
        log.warning("event %s to %s: %s (%s)", event.event_id, subscriber.name, answer["verdict"], outcome.error)
    return outcome, answer


def _call(subscriber: Subscriber, limit: float, attempt: int, *arguments: Any) -> Outcome:
    """The author's code, and what its end means."""
    try:
        with time_limit(limit):
            subscriber.function(*arguments)
        return Outcome("done")
    except (StepTimeLimit, SoftTimeLimitExceeded) as error:
        calm()
        last = attempt >= subscriber.retry.max_attempts
        return Outcome("failed", error=error, retry_in=None if last else subscriber.retry.delay(attempt))
    except Exception as error:  # noqa: BLE001 - whatever the author's code raises is an outcome
        return _failed(subscriber, error, attempt)


def _failed(subscriber: Subscriber, error: Exception, attempt: int) -> Outcome:
    policy = subscriber.retry
    last = attempt >= policy.max_attempts or policy.gives_up_on(error)
    return Outcome("failed", error=error, retry_in=None if last else policy.delay(attempt))


def publish_delivery(app: Celery, message: Mapping[str, Any] | None) -> bool:
    """Publish what the store said may go, if anything; a hint. False if the broker does not take it."""
    if not message:
        return True
    kwargs = {"delivery_id": message["delivery_id"]}
    options: dict[str, Any] = {"queue": message["queue"], "ignore_result": True}
    if message["saga_id"]:
        kwargs["saga_id"] = message["saga_id"]
        options["root_id"] = message["saga_id"]
    try:
        app.send_task(f"events.{message['subscriber']}", kwargs=kwargs, **options)
    except OperationalError as error:
        log.warning("delivery %s was not published (%s); the relay will", message["delivery_id"], error)
        return False
    return True


def _show(outcome: Outcome | None, answer: Mapping[str, Any]) -> None:
    """The attempt's end as Celery shows it: success, retry or failure."""
    if outcome is None or outcome.error is None or answer["verdict"] in ("done", "recorded"):
        return
    if answer["verdict"] == "retried":
        raise Retry(str(outcome.error), None, outcome.retry_in)
    if isinstance(outcome.error, Exception) and not isinstance(outcome.error, MemoryError):
        raise outcome.error
    # A MemoryError would stop the whole worker and requeue the message: poison for the fleet.
    raise RuntimeError(f"{type(outcome.error).__name__}: {outcome.error}")
