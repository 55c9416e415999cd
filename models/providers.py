"""Where workers come from, and how many slots are left there."""

from __future__ import annotations

import uuid
from collections.abc import Sequence

from sqlalchemy import func, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from models.saga import open_sagas
from models.tables import Job, Provider, Worker
from sagas import HodeiError
from sagas.jobs.types import JobState, ProviderId, WorkerState


class ProviderNotFound(HodeiError):
    """There is no provider with that id."""


class Providers:
    """The verbs on providers, in the caller's transaction."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def register(self, kind: str, host: str, capacity: int, provider_id: ProviderId | None = None) -> ProviderId:
        """The provider of this kind on this host; a new one gets `capacity` slots, a known one keeps its own."""
        row = insert(Provider).values(
            provider_id=provider_id or ProviderId.new(), kind=kind, host=host, capacity=capacity
        )
        self._session.execute(row.on_conflict_do_nothing())
        known = select(Provider.provider_id).where(Provider.kind == kind, Provider.host == host)
        return ProviderId(self._session.scalars(known).one())

    def get(self, provider_id: ProviderId | uuid.UUID) -> Provider:
        """The provider; ProviderNotFound if there is none."""
        provider = self._session.get(Provider, uuid.UUID(str(provider_id)))
        if provider is None:
            raise ProviderNotFound(f"no provider {provider_id}; start a worker that consumes its queue provider.<host>")
        return provider

    def list(self) -> Sequence[Provider]:
        """All of them."""
        return self._session.scalars(select(Provider).order_by(Provider.host, Provider.kind)).all()

    def lock_slots(self, provider_id: ProviderId) -> int:
        """Keep others from taking a slot until the transaction ends; how many are free. ProviderNotFound."""
        query = select(Provider).where(Provider.provider_id == provider_id).with_for_update()
        provider = self._session.scalars(query, execution_options={"populate_existing": True}).one_or_none()
        if provider is None:
            return self.get(provider_id).capacity
        return provider.capacity - self._taken(provider.provider_id) if provider.enabled else 0

    def with_free_slot(self) -> Provider | None:
        """The provider with the most slots that neither a worker has nor a saga under way is going to take."""
        providers = self._session.scalars(select(Provider).where(Provider.enabled).with_for_update()).all()
        free = {p.provider_id: p.capacity - self._taken(p.provider_id) for p in providers}
        promised = self._promised()
        best = max(providers, key=lambda p: free[p.provider_id], default=None)
        return best if best is not None and sum(max(0, slots) for slots in free.values()) > promised else None

    def _taken(self, provider_id: uuid.UUID) -> int:
        live = select(func.count()).where(Worker.provider_id == provider_id, Worker.state != WorkerState.TERMINATED)
        return self._session.scalar(live) or 0

    def _promised(self) -> int:
        """Provisioning sagas under way that have not reserved their slot yet."""
        reserved = select(Worker.worker_id).where(Worker.worker_id == Job.awaited_worker_id).exists()
        waiting = select(func.count()).where(Job.state == JobState.PENDING, ~reserved)
        return self._session.scalar(waiting.where(Job.provisioning_saga_id.in_(open_sagas()))) or 0
