"""Where workers come from, and how many slots are left there."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import and_, func, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from models.health import is_healthy
from models.matching import Room, provider_meets
from models.saga import SagaRecord
from models.tables import Job, Provider, Worker
from sagas import HodeiError
from sagas.jobs.requirements import Requirements, Resources
from sagas.jobs.types import JobState, ProviderId, WorkerState
from sagas.types import TERMINAL


class ProviderNotFound(HodeiError):
    """There is no provider with that id."""


class Providers:
    """The verbs on providers, in the caller's transaction."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def register(
        self,
        kind: str,
        host: str,
        capacity: int,
        provider_id: ProviderId | None = None,
        *,
        labels: Mapping[str, str] | None = None,
        resources: Resources | None = None,
    ) -> ProviderId:
        """The provider of this kind on this host; a new one gets `capacity` slots and the rest, a known one keeps its
        own.
        """
        most = resources or Resources()
        row = insert(Provider).values(
            provider_id=provider_id or ProviderId.new(),
            kind=kind,
            host=host,
            capacity=capacity,
            labels=dict(labels or {}),
            cpu=most.cpu,
            memory=most.memory,
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

    def change(
        self, provider_id: ProviderId, labels: Mapping[str, str], without: Sequence[str] = (), **values: Any
    ) -> Provider:
        """Add labels, take some away, set `capacity`, `cpu`, `memory`, `enabled`; ProviderNotFound.

        Jobs that no provider could satisfy are looked at again.
        """
        provider = self.get(provider_id)
        provider.labels = {name: value for name, value in {**provider.labels, **labels}.items() if name not in without}
        for name, value in values.items():
            setattr(provider, name, value)
        self._session.flush()
        self._session.execute(update(Job).where(Job.blocked.is_not(None)).values(blocked=None, not_before=None))
        return provider

    def slots_left(self, provider: Provider) -> int:
        """How many workers more it may have now."""
        return Room.of(provider, self._given(provider.provider_id)).slots

    def lock_slots(
        self, provider_id: ProviderId, resources: Resources | None = None, *, without: uuid.UUID | None = None
    ) -> int:
        """Keep others from taking a slot until the transaction ends; how many are free for a worker with these
        resources, if the worker `without` were gone. ProviderNotFound.
        """
        query = select(Provider).where(Provider.provider_id == provider_id).with_for_update()
        provider = self._session.scalars(query, execution_options={"populate_existing": True}).one_or_none()
        if provider is None:
            return self.get(provider_id).capacity
        room = Room.of(provider, self._given(provider.provider_id, without))
        return room.slots if provider.enabled and room.takes(resources or Resources()) else 0

    def with_room(self, asked: Requirements, *, without: uuid.UUID | None = None) -> Provider | None:
        """Of those that can make such a worker the one with the most slots left, that neither a worker has (but the
        worker `without`) nor a saga under way is going to take.
        """
        # In one order, for whoever locks several of them.
        now = select(Provider).where(Provider.enabled, is_healthy())
        able = now.where(*provider_meets(asked)).order_by(Provider.provider_id)
        promised = self._promised()
        rooms = [
            (Room.of(one, [*self._given(one.provider_id, without), *promised.get(one.provider_id, [])]), one)
            for one in self._session.scalars(able.with_for_update()).all()
        ]
        left = [(room.slots, provider) for room, provider in rooms if room.takes(asked.resources)]
        return max(left, key=lambda pair: pair[0])[1] if left else None

    def why_never(self, asked: Requirements) -> str | None:
        """Why none of the providers could make such a worker, however long one waits; None if one could.

        While there is no provider at all, nothing is said about it: they make themselves known when they start.
        """
        any_of_them = select(func.count(), func.count().filter(and_(*provider_meets(asked))))
        known, able = self._session.execute(any_of_them.select_from(Provider).where(Provider.enabled)).one()
        return None if able or not known else f"no provider can make a worker with {asked}; see: hodei provider list"

    def _given(self, provider_id: uuid.UUID, without: uuid.UUID | None = None) -> Sequence[Resources]:
        """What its workers have, one for each."""
        live = select(Worker.spec).where(Worker.provider_id == provider_id, Worker.state != WorkerState.TERMINATED)
        live = live.where(Worker.worker_id != without) if without is not None else live
        return [Resources.from_json(spec.get("resources") or {}) for spec in self._session.scalars(live)]

    def _promised(self) -> dict[uuid.UUID, Sequence[Resources]]:
        """Of each provider: what provisioning sagas under way will take of it, and have not reserved yet."""
        reserved = select(Worker.worker_id).where(Worker.worker_id == Job.awaited_worker_id).exists()
        payload = SagaRecord.context["payload"]
        waiting = (
            select(payload["provider_id"].astext, payload["spec"]["resources"])
            .join(Job, Job.provisioning_saga_id == SagaRecord.saga_id)
            .where(Job.state == JobState.PENDING, ~reserved, SagaRecord.state.not_in(TERMINAL))
        )
        promised: dict[uuid.UUID, Any] = {}
        for provider_id, resources in self._session.execute(waiting):
            promised.setdefault(uuid.UUID(provider_id), []).append(Resources.from_json(resources or {}))
        return promised
