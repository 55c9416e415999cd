"""The sagas' ports on our own rows: refusals of the database become the sagas' errors."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from datetime import datetime

from sqlalchemy.orm import Session

from models import ProviderNotFound, Records
from models.events import RecordsEvents
from sagas import PermanentError, SagaId
from sagas.jobs.types import AssignmentId, JobCommand, JobId, JobState, ProviderId, WorkerId, WorkerSpec, WorkerState

OpenRecords = Callable[[], AbstractContextManager[Records]]
GOING = (WorkerState.DRAINING, WorkerState.TERMINATING, WorkerState.TERMINATED)


class DatabaseRegistry:
    """`WorkerRegistry`."""

    def __init__(self, records: OpenRecords, events: RecordsEvents) -> None:
        self._records = records
        self._events = events

    def reserve(
        self,
        session: Session,
        worker_id: WorkerId,
        provider_id: ProviderId,
        spec: WorkerSpec,
        *,
        kept_for: str | None = None,
        replaces: WorkerId | None = None,
    ) -> None:
        """The provider's row is locked while its slots are counted: two sagas cannot take the last one."""
        records = Records(session, self._events)
        try:
            free = records.providers.lock_slots(provider_id, spec.resources, without=replaces)
        except ProviderNotFound as error:
            raise PermanentError(str(error)) from None
        known = records.workers.find(worker_id)
        if known is None and free <= 0:
            raise PermanentError(f"provider {provider_id} has no free slot for worker {worker_id}")
        records.workers.reserve(worker_id, provider_id, spec)
        if kept_for is not None:
            records.workers.give_to(worker_id, SagaId(kept_for))

    def issue_token(self, worker_id: WorkerId) -> str:
        """On record before the agent can use it."""
        with self._records() as records:
            return records.workers.issue_token(worker_id)

    def created(self, worker_id: WorkerId, reference: str) -> None:
        """CREATING to CONNECTING."""
        with self._records() as records:
            records.workers.created(worker_id, reference)

    def is_registered(self, session: Session, worker_id: WorkerId) -> bool:
        """Whether the agent's message has come."""
        worker = Records(session, self._events).workers.find(worker_id)
        if worker is None or worker.state in GOING:
            state = worker.state if worker else "not on record"
            raise PermanentError(f"worker {worker_id} is {state}: it cannot be registered any more")
        return worker.registered_at is not None

    def ready(self, session: Session, worker_id: WorkerId, provider_id: ProviderId) -> None:
        """CONNECTING to READY, and the event."""
        workers = Records(session, self._events).workers
        if not workers.ready(worker_id):
            raise PermanentError(f"worker {worker_id} is not CONNECTING and registered: it cannot become READY")
        workers.announce_provisioned(worker_id, provider_id)

    def retire(self, session: Session, worker_id: WorkerId) -> None:
        """TERMINATING."""
        Records(session, self._events).workers.retire(worker_id)

    def withdraw(self, session: Session, worker_id: WorkerId) -> None:
        """READY to TERMINATING; one that goes already is fine."""
        if not Records(session, self._events).workers.withdraw(worker_id):
            raise PermanentError(f"worker {worker_id} has a job, or is not up yet: it is left alone")

    def heard_since(self, worker_id: WorkerId, since: datetime) -> bool:
        """By its last heartbeat."""
        with self._records() as records:
            return records.workers.heard_since(worker_id, since)

    def unregister(self, session: Session, worker_id: WorkerId) -> None:
        """TERMINATED."""
        Records(session, self._events).workers.unregister(worker_id)


class DatabaseBoard:
    """`JobBoard`."""

    def __init__(self, records: OpenRecords, events: RecordsEvents) -> None:
        self._records = records
        self._events = events

    def check_pending(self, session: Session, job_id: JobId) -> None:
        """A look, no lock: `assign` decides."""
        state = Records(session, self._events).runs.find(job_id)
        if state is not JobState.PENDING:
            raise PermanentError(f"job {job_id} is {state or 'not on record'}, not PENDING")

    def assign(self, session: Session, job_id: JobId, worker_id: WorkerId, assignment_id: AssignmentId) -> None:
        """Both rows or none: the step's transaction is rolled back when it raises."""
        records = Records(session, self._events)
        if not records.jobs.assign(job_id, worker_id, assignment_id):
            raise PermanentError(f"job {job_id} is no longer PENDING, or has used up its attempts")
        if not records.workers.occupy(worker_id):
            raise PermanentError(f"worker {worker_id} is no longer READY")

    def command(self, job_id: JobId) -> JobCommand:
        """From the job's row: messages of sagas carry ids only."""
        with self._records() as records:
            job = records.jobs.find(job_id)
        if job is None:
            raise PermanentError(f"job {job_id} is not on record")
        return JobCommand.from_json(job.command)

    def announce_assigned(
        self, session: Session, job_id: JobId, worker_id: WorkerId, assignment_id: AssignmentId
    ) -> None:
        """JobAssigned."""
        Records(session, self._events).jobs.announce_assigned(job_id, worker_id, assignment_id)

    def unassign(self, session: Session, job_id: JobId, worker_id: WorkerId, assignment_id: AssignmentId) -> None:
        """Job first, then worker: everybody locks in this order."""
        records = Records(session, self._events)
        if records.jobs.unassign(job_id, assignment_id):
            records.workers.free(worker_id)
            records.due.end_cancelled(job_id)
