"""The engine's rows as classes, for reading: sagas and steps. Who changes them is the engine, by its SQL functions."""

from __future__ import annotations

import uuid
from datetime import datetime
from typing import Any

from sqlalchemy import Select, select
from sqlalchemy.orm import DeclarativeBase, Mapped

from sagas.store.schema import metadata, saga_instances, saga_steps
from sagas.types import TERMINAL


class EngineRecord(DeclarativeBase):
    """Base of what is mapped on the engine's own tables."""

    metadata = metadata


class SagaRecord(EngineRecord):
    """One saga."""

    __table__ = saga_instances

    saga_id: Mapped[uuid.UUID]
    saga_type: Mapped[str]
    state: Mapped[str]
    correlation_id: Mapped[str | None]
    idempotency_key: Mapped[str | None]
    context: Mapped[dict[str, Any]]
    started_at: Mapped[datetime]
    completed_at: Mapped[datetime | None]
    shadow: Mapped[bool]
    error: Mapped[dict[str, Any] | None]


class StepRecord(EngineRecord):
    """One step of a saga."""

    __table__ = saga_steps

    step_id: Mapped[uuid.UUID]
    saga_id: Mapped[uuid.UUID]
    step_name: Mapped[str]
    step_order: Mapped[int]
    state: Mapped[str]
    started_at: Mapped[datetime | None]
    completed_at: Mapped[datetime | None]


def open_sagas() -> Select[uuid.UUID]:
    """The ids of the sagas that have not ended: for an IN."""
    return select(SagaRecord.saga_id).where(SagaRecord.state.not_in(TERMINAL))
