"""Whether a provider makes workers now: what its host last said about it, and for how long that holds."""

from __future__ import annotations

import uuid

from sqlalchemy import ColumnElement, func, or_, select
from sqlalchemy.orm import Session

from models.events import Recorder, RecordsEvents, after, saga_now
from models.tables import Provider
from sagas.jobs.types import ProviderId


def is_healthy() -> ColumnElement[bool]:
    """Not one whose host has said that it is in trouble, or says nothing any more. A new one is."""
    return or_(Provider.healthy_until.is_(None), Provider.healthy_until > saga_now())


class ProviderHealth:
    """The verbs on what is said about providers, in the caller's transaction."""

    def __init__(self, session: Session, events: RecordsEvents) -> None:
        self._session = session
        self._record = Recorder(session, events, "provider")

    def note(self, provider_id: ProviderId, trouble: str | None, holds: float) -> None:
        """Its host says that it makes workers (for the next `holds` seconds), or why it does not."""
        query = select(Provider).where(Provider.provider_id == uuid.UUID(str(provider_id))).with_for_update()
        provider = self._session.scalars(query, execution_options={"populate_existing": True}).one()
        changed = provider.trouble != trouble if provider.healthy_until else trouble is not None
        provider.last_seen_at = saga_now()
        provider.healthy_until = after(holds) if trouble is None else saga_now()
        provider.trouble = trouble
        self._session.flush()
        if changed:
            self._record(provider_id, "ProviderHealthChanged", healthy=trouble is None, trouble=trouble)

    def troubles(self) -> dict[uuid.UUID, str]:
        """Those that make no workers now, each with the reason."""
        why = func.coalesce(Provider.trouble, "its host says nothing any more").label("why")
        query = select(Provider.provider_id, why).where(~is_healthy())
        return {row.provider_id: row.why for row in self._session.execute(query)}
