"""How a verb writes its event: in the transaction of the change itself (P8), by one way to publish."""

from __future__ import annotations

from datetime import timedelta
from typing import Any, Protocol

from sqlalchemy import ColumnElement, DateTime, func
from sqlalchemy.orm import Session

from sagas import DomainEvent


class RecordsEvents(Protocol):
    """What a repository needs of the engine's orchestrator."""

    def record_step_event(self, event: DomainEvent, *, session: Any = None) -> None:
        """Append one event in the session's transaction."""
        ...


class Recorder:
    """Writes the events of one stream's owner, a job or a worker, into the open transaction."""

    def __init__(self, session: Session, events: RecordsEvents, kind: str) -> None:
        self._session = session
        self._events = events
        self._kind = kind

    def __call__(self, owner: object, event_type: str, correlation_id: str | None = None, **payload: Any) -> None:
        """Append to the stream `<kind>:<owner>`; ids in the payload become strings, what is None is left out."""
        values = {
            name: value if isinstance(value, int | float | bool | str) else str(value)
            for name, value in payload.items()
            if value is not None
        }
        event = DomainEvent(event_type, f"{self._kind}:{owner}", values, correlation_id=correlation_id)
        self._events.record_step_event(event, session=self._session)


def saga_now() -> ColumnElement[Any]:
    """The clock of record."""
    return func.saga_now(type_=DateTime(timezone=True))


def after(seconds: float) -> ColumnElement[Any]:
    """`seconds` from now, by the clock of record."""
    return saga_now() + timedelta(seconds=seconds)
