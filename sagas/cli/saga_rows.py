"""What the saga commands read, as values that JSON can hold. Payloads and outputs stay in the database."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import sqlalchemy as sa

from sagas.cli.saga_engine import reading
from sagas.errors import SagaNotFound
from sagas.store.repository import error_text
from sagas.store.schema import saga_events, saga_instances, saga_steps
from sagas.types import SagaId, SagaState

SAGA = [
    "saga_id",
    "saga_type",
    "version",
    "state",
    "correlation_id",
    "actor",
    "idempotency_key",
    "started_at",
    "completed_at",
    "wake_at",
    "deadline",
    "paused_at",
    "pause_reason",
    "shadow",
    "error",
]
STEP = [
    "step_name",
    "state",
    "phase",
    "attempt",
    "undo_attempt",
    "attempt_id",
    "claimed_by",
    "lease_until",
    "not_before",
    "effect_possible",
    "started_at",
    "completed_at",
    "error",
]
EVENT = ["event_id", "event_type", "step_name", "actor", "occurred_at", "payload"]


def latest_sagas(
    sql: sa.Engine, states: Sequence[SagaState], saga_type: str | None, limit: int, shadow: bool = False
) -> list[dict[str, Any]]:
    """The latest sagas first, each with the step at which it is (None unless it goes forward).

    Those in the shadow have no effect: they are there only if `shadow` asks for them.
    """
    saga, step = saga_instances.c, saga_steps.c
    forward = saga.state.in_(["PENDING", "IN_PROGRESS"])
    at = (step.saga_id == saga.saga_id) & (step.step_order == saga.current_step) & forward
    query = sa.select(*(saga[name] for name in SAGA), step.step_name.label("step"))
    query = query.select_from(saga_instances.outerjoin(saga_steps, at)).order_by(saga.started_at.desc()).limit(limit)
    if not shadow:
        query = query.where(saga.shadow.is_(False))
    if states:
        query = query.where(saga.state.in_([str(state) for state in states]))
    if saga_type:
        query = query.where(saga.saga_type == saga_type)
    with reading(), sql.connect() as connection:
        return [_plain(row) for row in connection.execute(query).mappings()]


def one_saga(sql: sa.Engine, saga_id: SagaId) -> dict[str, Any]:
    """A saga with its `steps` in order, its `events` and what is `outstanding`. Raises SagaNotFound."""
    own = UUID(str(saga_id))
    columns = [saga_instances.c[name] for name in (*SAGA, "outstanding", "cancel_requested")]
    saga = sa.select(*columns).where(saga_instances.c.saga_id == own)
    steps = sa.select(*(saga_steps.c[name] for name in STEP)).where(saga_steps.c.saga_id == own).order_by("step_order")
    events = (
        sa.select(*(saga_events.c[name] for name in EVENT)).where(saga_events.c.saga_id == own).order_by("event_id")
    )
    # One snapshot: the state shown is that of the events shown.
    with reading(), sql.connect().execution_options(isolation_level="REPEATABLE READ") as connection:
        row = connection.execute(saga).mappings().first()
        if row is None:
            raise SagaNotFound(f"there is no saga {saga_id}")
        return {
            **_plain(row),
            "steps": [_plain(step) for step in connection.execute(steps).mappings()],
            "events": [_plain(event) for event in connection.execute(events).mappings()],
        }


def _plain(row: sa.RowMapping) -> dict[str, Any]:
    return {name: error_text(value) if name == "error" else _value(value) for name, value in row.items()}


def _value(value: Any) -> Any:
    if isinstance(value, UUID):
        return str(value)
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat(timespec="milliseconds")
    return value
