"""The flags of the sagas: read by every process, changed by a person, each change with its event."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from models.events import RecordsEvents, saga_now
from models.tables import FeatureFlag
from sagas import DomainEvent, SagaFeatureFlags, SagaType
from sagas.flags import WITH_SHADOW

CHANGEABLE = ("enabled", "percent", "shadow")


class Flags:
    """The verbs on flags, in the caller's transaction."""

    def __init__(self, session: Session, events: RecordsEvents) -> None:
        self._session = session
        self._events = events

    def list(self) -> Sequence[FeatureFlag]:
        """One for each saga that has a flag, as it is or as it comes."""
        query = select(FeatureFlag).order_by(FeatureFlag.saga)
        stored = {flag.saga: flag for flag in self._session.scalars(query, execution_options=FRESH)}
        return [stored.get(saga) or _as_it_comes(saga) for saga in SagaType]

    def current(self) -> SagaFeatureFlags:
        """All of them, to decide by."""
        flags, said = self.list(), dict[str, Any]()
        for flag in flags:
            said[f"{flag.saga}_saga_enabled"] = flag.enabled
            said[f"{flag.saga}_percent"] = flag.percent
        return SagaFeatureFlags(**said, shadow_sagas=frozenset(flag.saga for flag in flags if flag.shadow))

    def set(
        self,
        saga: SagaType,
        *,
        enabled: bool | None = None,
        percent: float | None = None,
        shadow: bool | None = None,
        actor: str,
        reason: str,
    ) -> FeatureFlag:
        """Change what is given; FeatureFlagChanged says what it was and what it is. Raises ValueError."""
        if percent is not None and not 0 <= percent <= 100:
            raise ValueError(f"{percent:g} is no percentage: from 0 to 100 is meant")
        if shadow and saga not in WITH_SHADOW:
            raise ValueError(f"{saga} has no shadow: there is no other way beside it to compare it with")
        flag = self._lock(saga)
        before = {name: getattr(flag, name) for name in CHANGEABLE}
        wanted = {"enabled": enabled, "percent": percent, "shadow": shadow}
        after = {**before, **{name: value for name, value in wanted.items() if value is not None}}
        if after != before:
            for name, value in {**after, "actor": actor, "reason": reason, "changed_at": saga_now()}.items():
                setattr(flag, name, value)
            self._session.flush()
            payload = {"saga": str(saga), "before": before, "after": after, "reason": reason}
            event = DomainEvent("FeatureFlagChanged", f"flag:{saga}", payload, actor=actor)
            self._events.record_step_event(event, session=self._session)
        return flag

    def _lock(self, saga: SagaType) -> FeatureFlag:
        """Its row, written if there was none: two changes come one after the other, and so do their events."""
        new = _as_it_comes(saga)
        values = {name: getattr(new, name) for name in ("saga", *CHANGEABLE, "actor", "reason")}
        self._session.execute(insert(FeatureFlag).values(**values).on_conflict_do_nothing())
        mine = select(FeatureFlag).where(FeatureFlag.saga == str(saga)).with_for_update()
        return self._session.scalars(mine, execution_options=FRESH).one()


FRESH = {"populate_existing": True}


def _as_it_comes(saga: str) -> FeatureFlag:
    flags = SagaFeatureFlags()
    values = {"enabled": flags.enabled(saga), "percent": flags.percent(saga), "shadow": flags.shadow_mode}
    return FeatureFlag(saga=str(saga), **values, actor="nobody", reason="as it comes")
