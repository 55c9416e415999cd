"""Questions about sagas that only read: what happened in one, and how all of them went."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import case, func, select
from sqlalchemy.orm import Session

from models.saga import SagaRecord, StepRecord
from sagas import StepState
from sagas.store.schema import saga_events


@dataclass(frozen=True)
class SagaTotals:
    """All sagas of one type in one state, but no shadows; `seconds` is their mean duration, None while they go on."""

    saga_type: str
    state: str
    sagas: int
    steps: int
    compensations: int
    seconds: float | None


class Sagas:
    """Reads the engine's records, in the caller's transaction."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def events(self, saga_id: uuid.UUID) -> Sequence[Any]:
        """(event_type, step_name, occurred_at) of one saga, in order."""
        columns = (saga_events.c.event_type, saga_events.c.step_name, saga_events.c.occurred_at)
        of_saga = select(*columns).where(saga_events.c.stream == f"saga:{saga_id}")
        return self._session.execute(of_saga.order_by(saga_events.c.event_id)).all()

    def totals(self) -> Sequence[SagaTotals]:
        """How the sagas went, by type and state. Reads all of history: for small systems."""
        begun = func.count(case((StepRecord.started_at.is_not(None), 1)))
        undone = func.count(case((StepRecord.state == StepState.COMPENSATED, 1)))
        steps = select(StepRecord.saga_id, begun.label("begun"), undone.label("undone")).group_by(StepRecord.saga_id)
        each = steps.subquery()
        seconds = func.extract("epoch", SagaRecord.completed_at - SagaRecord.started_at)
        rows = self._session.execute(
            select(
                SagaRecord.saga_type,
                SagaRecord.state,
                func.count(),
                func.sum(each.c.begun),
                func.sum(each.c.undone),
                func.avg(seconds),
            )
            .join(each, each.c.saga_id == SagaRecord.saga_id)
            .where(SagaRecord.shadow.is_(False))
            .group_by(SagaRecord.saga_type, SagaRecord.state)
            .order_by(SagaRecord.saga_type, SagaRecord.state)
        )
        return [
            SagaTotals(kind, state, sagas, int(begun), int(undone), float(mean) if mean is not None else None)
            for kind, state, sagas, begun, undone, mean in rows
        ]
