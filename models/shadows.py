"""Comparisons of what went past a saga with what the saga in its shadow made of it."""

from __future__ import annotations

import builtins
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Text, and_, cast, func, literal, not_, or_, select, update
from sqlalchemy.dialects.postgresql import JSONB, insert
from sqlalchemy.orm import InstrumentedAttribute, Session

from models.events import after, saga_now
from models.saga import SagaRecord
from models.tables import ShadowComparison
from sagas import SagaState
from sagas.store.repository import error_text

Effect = Mapping[str, Any]
NOT_ENDED = 900.0
"""Seconds after which what has not ended is compared as it is then."""
AT_ONCE = 200
_DIFFERENT = cast(ShadowComparison.differences, Text) != "{}"


@dataclass(frozen=True)
class ShadowTotals:
    """The comparisons of one saga that began under one percentage. `kinds`: how often each difference was seen."""

    saga_type: str
    percent: float
    begun: int
    compared: int
    different: int
    kinds: Mapping[str, int]


class Shadows:
    """The verbs on comparisons, in the caller's transaction. Where there is none, the first two do nothing."""

    def __init__(self, session: Session) -> None:
        self._session = session

    # --- as they go --------------------------------------------------------------------------------------------------

    def begin(
        self,
        run_id: uuid.UUID,
        saga_type: str,
        key: str,
        percent: float,
        saga_id: uuid.UUID | None,
        saga_error: str | None = None,
    ) -> None:
        """One has begun: `saga_id` is its shadow, or `saga_error` says why there is none."""
        values = {"run_id": run_id, "saga_type": str(saga_type), "key": key, "percent": percent}
        row = insert(ShadowComparison).values(**values, saga_id=saga_id, saga_error=saga_error)
        self._session.execute(row.on_conflict_do_nothing())

    def would_do(self, run_id: uuid.UUID, effects: Sequence[Effect]) -> None:
        """The shadow would have done this; what it says again after a loss is said once."""
        self._add(run_id, ShadowComparison.saga_effects, effects)

    def did(self, run_id: uuid.UUID, effects: Sequence[Effect], error: str | None = None, ended: bool = False) -> None:
        """What went past the saga did this; `ended`: and that was all, well or with an error."""
        self._add(run_id, ShadowComparison.direct_effects, effects)
        if ended:
            outcome = SagaState.COMPLETED if error is None else SagaState.FAILED
            mine = update(ShadowComparison).where(ShadowComparison.run_id == run_id)
            self._session.execute(mine.values(direct_outcome=outcome, direct_error=error))

    def _add(
        self, run_id: uuid.UUID, column: InstrumentedAttribute[builtins.list[Any]], effects: Sequence[Effect]
    ) -> None:
        for effect in effects:
            one = literal([dict(effect)], JSONB)
            mine = update(ShadowComparison).where(ShadowComparison.run_id == run_id, not_(column.contains(one)))
            self._session.execute(mine.values({column: column.op("||")(one)}))

    # --- when both have ended ----------------------------------------------------------------------------------------

    def take(self, limit: int = AT_ONCE) -> Sequence[tuple[ShadowComparison, SagaRecord | None]]:
        """Those that can be compared now, locked; others skip them."""
        ended = or_(SagaRecord.completed_at.is_not(None), ShadowComparison.saga_id.is_(None))
        both = and_(ShadowComparison.direct_outcome.is_not(None), ended)
        query = (
            select(ShadowComparison, SagaRecord)
            .outerjoin(SagaRecord, SagaRecord.saga_id == ShadowComparison.saga_id)
            .where(ShadowComparison.compared_at.is_(None))
            .where(or_(both, ShadowComparison.begun_at < after(-NOT_ENDED)))
            .order_by(ShadowComparison.begun_at)
            .limit(limit)
            .with_for_update(of=ShadowComparison, skip_locked=True)
        )
        rows = self._session.execute(query, execution_options={"populate_existing": True}).all()
        return [(row[0], row[1]) for row in rows]

    def compare(self, one: ShadowComparison, saga: SagaRecord | None) -> dict[str, Any]:
        """Store how they differ, and return it: nothing if they agree."""
        if saga is not None and saga.completed_at is not None:
            one.saga_outcome = saga.state
            one.saga_error = error_text(saga.error)
        elif one.saga_error is None:
            one.saga_error = f"the shadow has not ended after {NOT_ENDED:.0f} s"
        if one.direct_outcome is None:
            one.direct_error = f"it has not ended after {NOT_ENDED:.0f} s"
        one.differences = differences(one)
        one.compared_at = saga_now()
        self._session.flush()
        return one.differences

    # --- reading -----------------------------------------------------------------------------------------------------

    def totals(self) -> Sequence[ShadowTotals]:
        """By saga and percentage, in the order in which those were tried: a rise is seen from line to line."""
        saga_type, percent = ShadowComparison.saga_type, ShadowComparison.percent
        compared, different = func.count(ShadowComparison.compared_at), func.count().filter(_DIFFERENT)
        counted = select(saga_type, percent, func.count(), compared, different).group_by(saga_type, percent)
        kinds = self._kinds()
        return [
            ShadowTotals(saga, share, begun, done, differ, kinds.get((saga, share), {}))
            for saga, share, begun, done, differ in self._session.execute(
                counted.order_by(saga_type, func.min(ShadowComparison.begun_at))
            )
        ]

    def _kinds(self) -> Mapping[tuple[str, float], Mapping[str, int]]:
        """How often each difference was seen, by saga and percentage."""
        name = func.jsonb_object_keys(ShadowComparison.differences).label("name")
        named = select(ShadowComparison.saga_type, ShadowComparison.percent, name).where(_DIFFERENT).subquery()
        columns = (named.c.saga_type, named.c.percent, named.c.name)
        found: dict[tuple[str, float], dict[str, int]] = {}
        for saga_type, percent, kind, number in self._session.execute(
            select(*columns, func.count()).group_by(*columns).order_by(named.c.name)
        ):
            found.setdefault((saga_type, percent), {})[kind] = number
        return found

    def list(self, saga_type: str | None = None, limit: int = 50) -> Sequence[ShadowComparison]:
        """The latest comparisons that differ."""
        query = select(ShadowComparison).where(_DIFFERENT)
        query = query.where(ShadowComparison.saga_type == saga_type) if saga_type else query
        return self._session.scalars(query.order_by(ShadowComparison.begun_at.desc()).limit(limit)).all()


def differences(one: ShadowComparison) -> dict[str, Any]:
    """How the two differ: `outcome` with `saga_error` or `direct_error`, or else `effects`, what only one of them did.

    Two that failed agree: how each cleans up is its own affair.
    """
    direct, saga = (outcome == SagaState.COMPLETED for outcome in (one.direct_outcome, one.saga_outcome))
    if direct != saga:
        outcome = {"direct": one.direct_outcome, "saga": one.saga_outcome}
        why = {"saga_error": one.saga_error} if direct else {"direct_error": one.direct_error}
        return {"outcome": outcome, **why}
    if not direct or one.direct_effects == one.saga_effects:
        return {}
    only_direct = [effect for effect in one.direct_effects if effect not in one.saga_effects]
    only_saga = [effect for effect in one.saga_effects if effect not in one.direct_effects]
    if not only_direct and not only_saga:
        only_direct, only_saga = one.direct_effects, one.saga_effects  # the same, in another order
    return {"effects": {"direct": only_direct, "saga": only_saga}}
