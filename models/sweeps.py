"""Questions of the sweeps: which workers somebody must see to. They only read, but for the note that we listen."""

from __future__ import annotations

import uuid
from collections.abc import Collection, Mapping, Sequence

from sqlalchemy import ColumnElement, Select, String, case, cast, func, or_, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from models.events import after, saga_now
from models.saga import SagaRecord, open_sagas
from models.tables import Hearing, Provider, Worker
from sagas import SagaType
from sagas.jobs.termination import TERMINATION
from sagas.jobs.types import WorkerState
from sagas.types import TERMINAL

UP = (WorkerState.READY, WorkerState.BUSY)
COMING_OR_GOING = (WorkerState.CREATING, WorkerState.CONNECTING, WorkerState.DRAINING, WorkerState.TERMINATING)
AT_ONCE = 50


class Sweeps:
    """In the caller's transaction. Times are in seconds."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def listen(self, name: str, gap: float) -> float:
        """Note that somebody listens now; for how long that was so without a pause of more than `gap`."""
        now = saga_now()
        first = insert(Hearing).values(name=name, since=now, heard_at=now)
        deaf = Hearing.heard_at < after(-gap)
        again = first.on_conflict_do_update(
            index_elements=[Hearing.name], set_={"since": case((deaf, now), else_=Hearing.since), "heard_at": now}
        )
        since = self._session.scalars(again.returning(Hearing.since)).one()
        return float(self._session.scalars(select(func.extract("epoch", now - since))).one())

    def silent(self, dead: float) -> Sequence[uuid.UUID]:
        """Workers that are up, and from which nothing was heard for so long; the longest first."""
        silent = select(Worker.worker_id).where(Worker.state.in_(UP), Worker.last_seen_at < after(-dead))
        return self._session.scalars(silent.order_by(Worker.last_seen_at).limit(AT_ONCE)).all()

    def up(self, kind: str, host: str) -> Sequence[uuid.UUID]:
        """Workers of this host that are up, as the rows have it."""
        return self._session.scalars(_of(kind, host).where(Worker.state.in_(UP))).all()

    def states(self, workers: Collection[uuid.UUID]) -> Mapping[uuid.UUID, str]:
        """The states of these; one that has no row is not in it."""
        of_these = select(Worker.worker_id, Worker.state).where(Worker.worker_id.in_(workers))
        return {row.worker_id: row.state for row in self._session.execute(of_these)}

    def idle(self, idle: float) -> Sequence[uuid.UUID]:
        """READY workers that had no job for so long."""
        return self._ready(Worker.ready_at < after(-idle))

    def old(self, age: float) -> Sequence[uuid.UUID]:
        """READY workers that were made so long ago."""
        return self._ready(Worker.created_at < after(-age))

    def _ready(self, long_ago: ColumnElement[bool]) -> Sequence[uuid.UUID]:
        ready = select(Worker.worker_id).where(Worker.state == WorkerState.READY, long_ago, unowned())
        return self._session.scalars(ready.limit(AT_ONCE)).all()

    def stranded(self) -> Sequence[uuid.UUID]:
        """Workers that come up or go away, are due to be looked at, and no saga sees to it."""
        making = select(SagaRecord.saga_id).where(
            SagaRecord.saga_type == SagaType.PROVISIONING,
            SagaRecord.shadow.is_(False),
            SagaRecord.state.not_in(TERMINAL),
            SagaRecord.context["payload"]["worker_id"].astext == cast(Worker.worker_id, String),
        )
        left = select(Worker.worker_id).where(
            Worker.state.in_(COMING_OR_GOING), Worker.wake_at < saga_now(), unowned(), ~making.exists()
        )
        return self._session.scalars(left.limit(AT_ONCE)).all()

    def lock(self, worker_id: uuid.UUID) -> tuple[Worker, str] | None:
        """The worker's row, locked, and its host. None if there is none, or a saga that goes on owns it."""
        row = select(Worker, Provider.host).join(Provider, Provider.provider_id == Worker.provider_id)
        mine = row.where(Worker.worker_id == worker_id, unowned()).with_for_update(of=Worker)
        found = self._session.execute(mine, execution_options={"populate_existing": True}).one_or_none()
        return (found[0], found[1]) if found else None

    def is_being_terminated(self, worker_id: uuid.UUID) -> bool:
        """Whether a saga that goes on ends this worker, which may have no row."""
        ends = select(SagaRecord.saga_id).where(
            SagaRecord.saga_type == TERMINATION,
            SagaRecord.state.not_in(TERMINAL),
            SagaRecord.context["payload"]["worker_id"].astext == str(worker_id),
        )
        return self._session.scalar(ends.limit(1)) is not None

    def is_silent(self, worker_id: uuid.UUID, dead: float) -> bool:
        """Whether nothing was heard of it for so long."""
        silent = select(Worker.worker_id).where(Worker.worker_id == worker_id, Worker.last_seen_at < after(-dead))
        return self._session.scalar(silent) is not None


def unowned() -> ColumnElement[bool]:
    """No saga that goes on has this worker."""
    return or_(Worker.owner_saga_id.is_(None), Worker.owner_saga_id.not_in(open_sagas()))


def _of(kind: str, host: str) -> Select[uuid.UUID]:
    of_host = select(Worker.worker_id).join(Provider, Provider.provider_id == Worker.provider_id)
    return of_host.where(Provider.kind == kind, Provider.host == host)
