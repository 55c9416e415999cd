"""Messages: the chain of a few steps with its `link_error`. Names, ids and queues; a hint, never the record."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

from celery import Celery
from celery.exceptions import SoftTimeLimitExceeded
from kombu.exceptions import BatchPublishError, OperationalError

from sagas.types import SagaId

log = logging.getLogger(__name__)

CONTROL = "control"
COMPENSATIONS = "compensations"
PACK = "hodei_pack"
"""The header of messages that bring several sagas."""
COMPENSATE = "sagas.compensate"
"""The task that a step's `link_error` publishes."""


def task_name(saga_type: str, step: str, undo: bool) -> str:
    """`order.charge_card`, and `order.charge_card.compensate`: routes, rate limits and Flower work by name."""
    return f"{saga_type}.{step}.compensate" if undo else f"{saga_type}.{step}"


def saga_and_step(name: str) -> tuple[str, str]:
    """What `task_name` made a step's name of (not an undo's)."""
    saga_type, step = name.split(".")
    return saga_type, step


def publish_route(
    app: Celery,
    saga_id: SagaId | str,
    saga_type: str,
    route: Sequence[Mapping[str, Any]],
    *,
    undo: bool,
    countdown: float | None = None,
    producer: Any = None,
    brings: Sequence[str] = (),
    parent_id: str | None = None,
) -> bool:
    """Publish one message that carries these steps in order. False (and a warning) if the broker does not take it.

    It `brings` further sagas that have the same steps to do (decision 0014). `parent_id`: the task that its first one
    comes from, where that is not the one which runs here.
    """
    if not route:
        return True
    first, *after = hops(saga_id, saga_type, route, undo)
    # What `chain(...).apply_async()` sends, without its copies of each signature; and that drops `producer`.
    send = partial(
        app.send_task,
        first["task"],
        kwargs=first["kwargs"],
        root_id=str(saga_id),
        parent_id=parent_id,
        chain=after[::-1] or None,
        headers=pack(brings, route) if brings else None,
        countdown=countdown or None,
        producer=producer,
        **first["options"],
    )
    return published(saga_id, send)


def published(saga_id: SagaId | str, send: Callable[[], object]) -> bool:
    """Send the saga's message by this. False (and a warning) if the broker does not take it: it is reconcile's then."""
    try:
        send()
    except SoftTimeLimitExceeded:  # not the broker's: it is the task's that called us
        raise
    except Exception as error:  # noqa: BLE001 - only a hint; kombu raises more than its own errors
        log.warning("saga %s: its message was not published (%s); reconcile will", saga_id, error)
        return False
    return True


@contextmanager
def together(app: Celery) -> Iterator[Any]:
    """Messages that are published in the body with this producer go out in few round trips (kombu's batch)."""
    try:
        with app.producer_pool.acquire(block=True) as producer, producer.batch():
            yield producer
    except (OperationalError, BatchPublishError, OSError) as error:
        log.warning("messages were not published (%s); reconcile will", error)


def publish_found(app: Celery, found: Mapping[str, Any] | None) -> bool:
    """Publish what the store said is due (`saga_look`), if anything."""
    if not found:
        return True
    return publish_route(
        app,
        found["saga_id"],
        found["saga_type"],
        found["route"],
        undo=found["undo"],
        brings=found.get("brings") or (),
    )


def pack(brings: Sequence[str], route: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The header of a message that brings these sagas besides its own, and the route that each of them has."""
    return {PACK: {"sagas": list(brings), "route": [dict(hop) for hop in route]}}


def hops(saga_id: SagaId | str, saga_type: str, route: Sequence[Mapping[str, Any]], undo: bool) -> list[dict[str, Any]]:
    """The steps of a chain as signatures, each with the id that its task will have."""
    help_ = help_signature(saga_id)
    signatures = []
    for hop in route:
        options: dict[str, Any] = {
            "ignore_result": True,
            "queue": hop["queue"],
            "task_id": str(uuid.uuid4()),
            "link_error": [help_],
        }
        if hop["priority"] is not None:
            options["priority"] = hop["priority"]
        signatures.append(_signature(task_name(saga_type, hop["step"], undo), saga_id, options))
    return signatures


def help_signature(saga_id: SagaId | str) -> dict[str, Any]:
    """The errback of each step."""
    return _signature(COMPENSATE, saga_id, {"queue": COMPENSATIONS, "ignore_result": True})


def _signature(name: str, saga_id: SagaId | str, options: dict[str, Any]) -> dict[str, Any]:
    """As Celery's own is in a message; to make one of its objects takes as long as to send it."""
    return {
        "task": name,
        "args": [],
        "kwargs": {"saga_id": str(saga_id)},
        "options": options,
        "subtask_type": None,
        "immutable": True,
    }
