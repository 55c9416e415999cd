"""What can happen to a worker, as verbs; each says its states in its WHERE and writes its event."""

from __future__ import annotations

import hashlib
import secrets
import uuid
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Select, or_, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from models.events import Recorder, RecordsEvents, after, saga_now
from models.matching import worker_meets
from models.saga import open_sagas
from models.tables import JOB_LIVE, Job, Provider, Worker
from sagas.jobs.requirements import Requirements
from sagas.jobs.types import ProviderId, WorkerId, WorkerSpec, WorkerState

LOOK_AGAIN = 60.0
"""Seconds until a worker that did not move is looked at again."""


def digest(token: str) -> str:
    """What is stored of a token: nobody registers with what the database knows."""
    return hashlib.sha256(token.encode()).hexdigest()


class Workers:
    """The verbs on workers, in the caller's transaction."""

    def __init__(self, session: Session, events: RecordsEvents) -> None:
        self._session = session
        self._record = Recorder(session, events, "worker")

    # --- reading ---------------------------------------------------------------------------------------------------

    def find(self, worker_id: WorkerId | uuid.UUID) -> Worker | None:
        """The worker as it is in the database now, or None."""
        return self._session.get(Worker, uuid.UUID(str(worker_id)), populate_existing=True)

    def heard_since(self, worker_id: WorkerId, since: datetime) -> bool:
        """Whether its agent has given a sign of life after that instant."""
        heard = select(Worker.worker_id).where(Worker.worker_id == worker_id, Worker.last_seen_at > since)
        return self._session.scalar(heard) is not None

    def list(self, ended: bool = False, limit: int = 200) -> Sequence[Worker]:
        """The latest workers first; those that are TERMINATED only if `ended`."""
        query = select(Worker).order_by(Worker.created_at.desc()).limit(limit)
        return self._session.scalars(query if ended else query.where(Worker.state != WorkerState.TERMINATED)).all()

    # --- coming up ---------------------------------------------------------------------------------------------------

    def reserve(self, worker_id: WorkerId, provider_id: ProviderId, spec: WorkerSpec) -> bool:
        """Write the row, CREATING, which takes a slot; False if it is there already. The caller holds the slots."""
        row = insert(Worker).values(
            worker_id=worker_id,
            provider_id=provider_id,
            state=WorkerState.CREATING,
            spec=spec.to_json(),
            wake_at=after(LOOK_AGAIN),
        )
        new = self._session.scalar(row.on_conflict_do_nothing().returning(Worker.worker_id))
        if new is not None:
            self._record(worker_id, "WorkerStatusChanged", state=WorkerState.CREATING, provider_id=provider_id)
        return new is not None

    def issue_token(self, worker_id: WorkerId) -> str:
        """A fresh one-time token, stored as its hash; those given before stay good until one of them is used."""
        token = secrets.token_urlsafe(32)
        hashes = Worker.token_hashes.op("||")([digest(token)])
        self._session.execute(update(Worker).where(Worker.worker_id == worker_id).values(token_hashes=hashes))
        return token

    def created(self, worker_id: WorkerId, reference: str) -> None:
        """Its infrastructure exists: CREATING to CONNECTING, unless its agent was faster (L3)."""
        named = update(Worker).where(Worker.worker_id == worker_id).values(reference=reference)
        self._session.execute(named)
        self._move([WorkerState.CREATING], WorkerState.CONNECTING, Worker.worker_id == worker_id)

    def register(self, worker_id: WorkerId, token: str, instance: str) -> bool:
        """The agent has come up. True for the token's first user, and for the same instance again."""
        worker = self._session.scalars(
            update(Worker)
            .where(Worker.worker_id == worker_id, Worker.token_hashes.contains([digest(token)]))
            .where(or_(Worker.instance.is_(None), Worker.instance == instance))
            .where(Worker.state.not_in([WorkerState.TERMINATING, WorkerState.TERMINATED]))
            .values(instance=instance, last_seen_at=saga_now())
            .returning(Worker),
            execution_options={"populate_existing": True, "synchronize_session": False},
        ).one_or_none()
        if worker is None:
            return False
        if worker.registered_at is None:
            self._move([WorkerState.CREATING], WorkerState.CONNECTING, Worker.worker_id == worker_id)
            first = update(Worker).where(Worker.worker_id == worker_id).values(registered_at=saga_now())
            self._session.execute(first)
            self._record(worker_id, "WorkerRegistered", instance=instance)
        return True

    def ready(self, worker_id: WorkerId) -> bool:
        """CONNECTING to READY, once it is registered: from here on it gets jobs."""
        return self._move(
            [WorkerState.CONNECTING],
            WorkerState.READY,
            Worker.worker_id == worker_id,
            Worker.registered_at.is_not(None),
            ready_at=saga_now(),
        )

    def announce_provisioned(self, worker_id: WorkerId, provider_id: ProviderId) -> None:
        """The event of a provisioning that is complete."""
        self._record(worker_id, "WorkerProvisioned", provider_id=provider_id)

    # --- working -----------------------------------------------------------------------------------------------------

    def seen(self, worker_id: WorkerId, instance: str) -> bool:
        """A sign of life; False if nobody knows the worker, or if its agent is another one."""
        owner = or_(Worker.instance.is_(None), Worker.instance == instance)
        seen = update(Worker).where(Worker.worker_id == worker_id, owner).values(last_seen_at=saga_now())
        return self._session.scalar(seen.returning(Worker.worker_id)) is not None

    def claim_ready(self, silent_for: float, asked: Requirements | None = None) -> Worker | None:
        """Lock a READY worker that no saga is about to use, the longest idle first; another dispatcher skips it.

        Of those that are what a job asks for. One that was silent for so many seconds gets no job.
        """
        idle = _idle(silent_for, asked).order_by(Worker.ready_at).limit(1).with_for_update(of=Worker, skip_locked=True)
        return self._session.scalars(idle, execution_options={"populate_existing": True}).one_or_none()

    def any_ready(self, silent_for: float, asked: Requirements | None = None) -> bool:
        """Whether there is such a worker, locked or not: its heartbeat may hold its row for a moment."""
        return bool(self._session.scalar(select(_idle(silent_for, asked).exists())))

    def any_that_meets(self, asked: Requirements, worker_id: WorkerId | None = None) -> bool:
        """Whether a worker, or this one, is what a job asks for, whatever it does now; not if it is TERMINATED."""
        such = _with_provider().where(Worker.state != WorkerState.TERMINATED, *worker_meets(asked))
        such = such.where(Worker.worker_id == worker_id) if worker_id is not None else such
        return bool(self._session.scalar(select(such.exists())))

    def give_to(self, worker_id: WorkerId, saga_id: uuid.UUID) -> None:
        """From now on this execution saga is about to use the worker."""
        owner = update(Worker).where(Worker.worker_id == worker_id).values(owner_saga_id=saga_id)
        self._session.execute(owner)

    def occupy(self, worker_id: WorkerId) -> bool:
        """READY to BUSY; False if it is not free."""
        return self._move([WorkerState.READY], WorkerState.BUSY, Worker.worker_id == worker_id)

    def free(self, worker_id: WorkerId) -> bool:
        """BUSY to READY, if no job is live on it."""
        live = select(Job.job_id).where(Job.worker_id == worker_id, Job.state.in_(JOB_LIVE)).exists()
        # It keeps its owner: while a recovery goes on that may undo this worker, nobody else uses it.
        return self._move(
            [WorkerState.BUSY], WorkerState.READY, Worker.worker_id == worker_id, ~live, ready_at=saga_now()
        )

    # --- going away --------------------------------------------------------------------------------------------------

    def retire(self, worker_id: WorkerId) -> None:
        """No job any more, from any state before TERMINATING; the row keeps its slot until it is unregistered."""
        self._move([WorkerState.READY, WorkerState.BUSY], WorkerState.DRAINING, Worker.worker_id == worker_id)
        before = [WorkerState.CREATING, WorkerState.CONNECTING, WorkerState.DRAINING]
        self._move(before, WorkerState.TERMINATING, Worker.worker_id == worker_id)

    def withdraw(self, worker_id: WorkerId) -> bool:
        """READY to TERMINATING, never with a job (L32); True if it goes, or went before."""
        self._move([WorkerState.READY], WorkerState.DRAINING, Worker.worker_id == worker_id)
        self._move([WorkerState.DRAINING], WorkerState.TERMINATING, Worker.worker_id == worker_id)
        worker = self.find(worker_id)
        return worker is not None and worker.state in (WorkerState.TERMINATING, WorkerState.TERMINATED)

    def unregister(self, worker_id: WorkerId) -> None:
        """TERMINATED: its slot is free again. Only after its infrastructure is gone (L14)."""
        self.retire(worker_id)
        gone = {"terminated_at": saga_now(), "wake_at": None}
        self._move([WorkerState.TERMINATING], WorkerState.TERMINATED, Worker.worker_id == worker_id, **gone)

    def _move(self, sources: Sequence[WorkerState], target: WorkerState, *where: Any, **values: Any) -> bool:
        """One edge of the machine, with its event; False if the worker is in none of the sources."""
        assert all(source.can_transition_to(target) for source in sources), (sources, target)
        values = {"wake_at": after(LOOK_AGAIN), **values, "state": target}
        statement = update(Worker).where(*where, Worker.state.in_(sources)).values(**values).returning(Worker.worker_id)
        moved = self._session.scalar(statement, execution_options={"synchronize_session": False})
        if moved is not None:
            self._record(moved, "WorkerStatusChanged", state=target)
        return moved is not None


def _with_provider() -> Select[Worker]:
    return select(Worker).join(Provider, Provider.provider_id == Worker.provider_id)


def _idle(silent_for: float, asked: Requirements | None) -> Select[Worker]:
    return (
        _with_provider()
        .where(Worker.state == WorkerState.READY, Worker.last_seen_at >= after(-silent_for))
        .where(or_(Worker.owner_saga_id.is_(None), Worker.owner_saga_id.not_in(open_sagas())))
        .where(*worker_meets(asked or Requirements()))
    )
