"""The port of the recovery saga on our own rows."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from sqlalchemy.orm import Session

from models import Records
from models.events import RecordsEvents
from models.recovery import GOING
from sagas import CancelSaga, PermanentError, SagaId
from sagas.jobs.requirements import Requirements
from sagas.jobs.termination import Reason
from sagas.jobs.types import AssignmentId, JobId, JobState, ProviderId, WorkerId, WorkerSpec, WorkerState
from tasks.adapters import OpenRecords
from tasks.orchestrator import JobOrchestrator


class DatabaseRecoveryDesk:
    """`RecoveryDesk`."""

    def __init__(
        self,
        records: OpenRecords,
        events: RecordsEvents,
        orchestrator: JobOrchestrator,
        default_spec: Callable[[], WorkerSpec],
    ) -> None:
        self._records = records
        self._events = events
        self._orchestrator = orchestrator
        self._default_spec = default_spec

    def came_back(self, worker_id: WorkerId, since: datetime, session: Session | None = None) -> bool:
        """By the worker's last heartbeat."""
        if session is not None:
            return Records(session, self._events).workers.heard_since(worker_id, since)
        with self._records() as records:
            return records.workers.heard_since(worker_id, since)

    def heartbeat_missed(
        self, session: Session, job_id: JobId, worker_id: WorkerId, assignment_id: AssignmentId
    ) -> bool:
        """WorkerHeartbeatMissed."""
        return Records(session, self._events).recoveries.heartbeat_missed(job_id, worker_id, assignment_id)

    def take_away(self, session: Session, job_id: JobId, worker_id: WorkerId, assignment_id: AssignmentId) -> bool:
        """JobReassignmentRequired."""
        return Records(session, self._events).recoveries.take_away(job_id, worker_id, assignment_id)

    def give_back(self, session: Session, job_id: JobId, worker_id: WorkerId, assignment_id: AssignmentId) -> None:
        """ASSIGNED to the old worker, or ended by its result."""
        Records(session, self._events).recoveries.give_back(job_id, worker_id, assignment_id)

    def replacement(self, job_id: JobId, worker_id: WorkerId) -> tuple[ProviderId, str, WorkerSpec] | None:
        """Where there is most room, the slot of the old worker counted as free."""
        with self._records() as records:
            asked = Requirements.from_json(records.jobs.get(job_id).requirements)
            place = records.providers.with_room(asked, without=worker_id)
            return (ProviderId(place.provider_id), place.host, self._default_spec().meeting(asked)) if place else None

    def reassign(self, job_id: JobId, worker_id: WorkerId, assignment_id: AssignmentId) -> None:
        """One transaction: job and worker, or neither."""
        with self._records() as records:
            if records.recoveries.reassign(job_id, worker_id, assignment_id):
                return
            job = records.jobs.get(job_id)
            if JobState(job.state).is_terminal or job.cancel_requested_at is not None:
                raise CancelSaga(f"job {job_id} has ended, or shall not be run again")
            raise PermanentError(f"job {job_id} ({job.state}) cannot be assigned to worker {worker_id}")

    def has_stopped(self, job_id: JobId, worker_id: WorkerId, assignment_id: AssignmentId) -> bool:
        """The new worker has said so, has never had it, or is going itself."""
        with self._records() as records:
            records.recoveries.take_back(job_id, assignment_id)
            job, worker = records.jobs.get(job_id), records.workers.find(worker_id)
            silent = worker is None or worker.state in GOING or worker.state != WorkerState.BUSY
            return silent or job.assignment_id == assignment_id or records.recoveries.has_result(assignment_id)

    def condemn(
        self, session: Session, job_id: JobId, worker_id: WorkerId, since: datetime, saga_id: SagaId
    ) -> SagaId | None:
        """TERMINATING; or free, if it lives and its job has ended elsewhere."""
        records = Records(session, self._events)
        job, worker = records.recoveries.let_go(job_id, worker_id)
        if worker is None or worker.state in GOING:
            return None
        if worker.last_seen_at is not None and worker.last_seen_at > since:
            if job is not None and not JobState(job.state).is_terminal:
                raise CancelSaga(f"worker {worker_id} has come back")
            records.workers.free(worker_id)
            return None
        records.workers.retire(worker_id)
        termination = self._orchestrator.start_termination_saga(
            worker_id,
            records.providers.get(worker.provider_id).host,
            Reason.RECOVERED,
            idempotency_key=f"end:{worker_id}:{saga_id}",
            session=session,
        )
        records.workers.give_to(worker_id, termination)
        return termination
