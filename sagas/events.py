"""Subscribing to events: `@on_event("WorkerProvisioned")` makes a function a subscriber, and later a Celery task.

    @on_event("OrderShipped")
    def send_mail(event: DomainEvent) -> None:
        mail.send(event.payload["to"], key=f"shipped-{event.event_id}")

A subscriber is called at least once for each event that is written after a worker has loaded it, in the order of the
event's stream (but for parked ones), one event of a stream at a time. It must be safe to call twice with one event;
`event.event_id` is what it tells them apart by. With `transactional=True` it is given a database session and is called
exactly once as far as that session's writes go.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from sagas.errors import DefinitionError
from sagas.policy import RetryPolicy
from sagas.results import DomainEvent
from sagas.step import in_seconds
from sagas.types import check_name

ANY = "*"
# A subscriber that fails holds up its stream for itself alone: ten attempts, at most 300 s apart, about nine minutes.
DEFAULT_EVENT_RETRY = RetryPolicy(max_attempts=10, max_backoff=300.0)


@dataclass(frozen=True)
class Subscriber:
    """One function that wants events. Its name is its identity in the database: a new name is a new subscriber."""

    name: str
    function: Callable[..., Any]
    event_types: tuple[str, ...]
    transactional: bool = False
    retry: RetryPolicy = DEFAULT_EVENT_RETRY
    timeout: float | None = None
    queue: str = "events"

    def __post_init__(self) -> None:
        check_name("subscriber", self.name, frozenset())
        if inspect.iscoroutinefunction(self.function):
            raise DefinitionError(
                f"subscriber {self.name!r} is async; write a plain function (Celery runs it in a process)"
            )
        if not self.event_types or not all(isinstance(one, str) and one for one in self.event_types):
            raise DefinitionError(f"subscriber {self.name!r}: on_event takes the names of event types, or '*'")
        if ANY in self.event_types and len(self.event_types) > 1:
            raise DefinitionError(f"subscriber {self.name!r}: '*' is every event already; drop the other types")
        try:
            inspect.signature(self.function).bind(*(("event", "session") if self.transactional else ("event",)))
        except TypeError:
            wanted = "(event, session), because it is transactional" if self.transactional else "(event)"
            raise DefinitionError(f"subscriber {self.name!r} must take {wanted}") from None

    @property
    def task_name(self) -> str:
        """Its Celery task: `events.send_mail`."""
        return f"events.{self.name}"

    def __call__(self, event: DomainEvent, *session: Any) -> Any:
        """The function itself, for unit tests."""
        return self.function(event, *session)


def on_event(
    event_types: str | tuple[str, ...],
    *,
    name: str | None = None,
    transactional: bool = False,
    retry: RetryPolicy | None = None,
    timeout: float | timedelta | None = None,
    queue: str = "events",
) -> Callable[[Callable[..., Any]], Subscriber]:
    """Decorator: call this function for each event of these types (`"*"`: of every type).

    It is found in the modules that `sagas.install` loads. `name` is the function's own unless given, and unique.
    `transactional=True`: the function takes `(event, session)`, and what it writes commits together with the record
    that the event was handled. `timeout` is in seconds (default: that of steps); an exception is retried by `retry`,
    then the event is parked for this subscriber (`hodei events parked`). Raises DefinitionError.
    """
    types = (event_types,) if isinstance(event_types, str) else tuple(event_types)

    def subscribe(function: Callable[..., Any]) -> Subscriber:
        return Subscriber(
            name=name or function.__name__,
            function=function,
            event_types=types,
            transactional=transactional,
            retry=retry or DEFAULT_EVENT_RETRY,
            timeout=in_seconds(timeout),
            queue=queue,
        )

    return subscribe
