"""A job goes from a silent worker to a new one, or back: the verbs. A job is locked before a worker, everywhere."""

from __future__ import annotations

import uuid
from collections.abc import Collection
from typing import Any

from sqlalchemy import and_, delete, or_, select, update
from sqlalchemy.orm import Session

from models.due import DueJobs
from models.events import Recorder, RecordsEvents, after, saga_now
from models.jobs import LOOK_AGAIN, Jobs
from models.runs import Runs
from models.saga import SagaRecord, open_sagas
from models.tables import JOB_LIVE, Job, JobResult, Worker
from models.workers import Workers
from sagas import SagaState, SagaType
from sagas.jobs.types import AssignmentId, JobId, JobOutcome, JobState, WorkerId, WorkerState

TRY_AGAIN = 10.0
"""Seconds between a recovery that failed and the next one of the same job."""
GOING = (WorkerState.TERMINATING, WorkerState.TERMINATED)
NOWHERE: dict[str, Any] = {"state": JobState.PENDING, "worker_id": None, "assignment_id": None}
FOUND: dict[str, Any] = {"lost_worker_id": None, "lost_assignment_id": None}


class Recoveries:
    """The verbs, in the caller's transaction."""

    def __init__(self, session: Session, events: RecordsEvents) -> None:
        self._session = session
        self._events = events
        self._job_event = Recorder(session, events, "job")
        self._worker_event = Recorder(session, events, "worker")

    # --- reading ---------------------------------------------------------------------------------------------------

    def lock_job_of(self, worker_id: uuid.UUID) -> Job | None:
        """The job that is on this worker, or that a recovery which goes on has taken from it; locked."""
        taken = (Job.lost_worker_id == worker_id, Job.owner_saga_id.in_(open_sagas()))
        its = or_(and_(Job.worker_id == worker_id, Job.state.in_(JOB_LIVE)), and_(*taken))
        query = select(Job).where(its).limit(1).with_for_update()
        return self._session.scalars(query, execution_options={"populate_existing": True}).one_or_none()

    def held(self, assignments: Collection[AssignmentId]) -> set[AssignmentId]:
        """Of these the ones that are good again if a recovery is undone: nobody stops them yet."""
        if not assignments:
            return set()
        held = select(Job.lost_assignment_id).where(
            Job.lost_assignment_id.in_(assignments), Job.owner_saga_id.in_(open_sagas())
        )
        return {AssignmentId(one) for one in self._session.scalars(held) if one}

    def pauses(self, job: Job) -> bool:
        """Whether the job's last recovery has failed just now."""
        failed = select(SagaRecord.saga_id).where(
            SagaRecord.saga_id == job.owner_saga_id,
            SagaRecord.saga_type == SagaType.RECOVERY,
            SagaRecord.state.in_([SagaState.COMPENSATED, SagaState.FAILED]),
            SagaRecord.completed_at > after(-TRY_AGAIN),
        )
        return self._session.scalar(failed) is not None

    def has_result(self, assignment_id: AssignmentId) -> bool:
        """Whether its worker has said how it ended."""
        return self._session.get(JobResult, assignment_id) is not None

    # --- verbs -----------------------------------------------------------------------------------------------------

    def heartbeat_missed(self, job_id: JobId, worker_id: WorkerId, assignment_id: AssignmentId) -> bool:
        """The event; False if the job is not there any more."""
        job, worker = self._lock(job_id), self._session.get(Worker, worker_id)
        if job is None or worker is None or not _is_at(job, worker_id, assignment_id):
            return False
        told = {"job_id": job_id, "assignment_id": assignment_id, "last_seen_at": worker.last_seen_at}
        self._worker_event(worker_id, "WorkerHeartbeatMissed", job.correlation_id, **told)
        return True

    def take_away(self, job_id: JobId, worker_id: WorkerId, assignment_id: AssignmentId) -> bool:
        """ASSIGNED or RUNNING to PENDING; where it was is remembered. It keeps its owner, the recovery."""
        job = self._lock(job_id)
        if job is None or not _is_at(job, worker_id, assignment_id):
            return False
        lost = {"lost_worker_id": worker_id, "lost_assignment_id": assignment_id}
        self._set(job, **NOWHERE, **lost, wake_at=after(LOOK_AGAIN))
        told = {"worker_id": worker_id, "assignment_id": assignment_id, "state": job.state}
        self._job_event(job_id, "JobReassignmentRequired", job.correlation_id, **told)
        DueJobs(self._session, self._events).end_cancelled(job_id)
        return True

    def give_back(self, job_id: JobId, worker_id: WorkerId, assignment_id: AssignmentId) -> None:
        """ASSIGNED there once more, which its worker's next heartbeat makes RUNNING; a kept result ends it now.

        A job that has ended in the meantime stays so, and the worker is free.
        """
        job = self._lock(job_id)
        worker = self._lock_worker(worker_id)
        if job is None or job.lost_assignment_id != assignment_id:
            return
        waits = job.state == JobState.PENDING and worker is not None and worker.state not in GOING
        self._set(job, **FOUND)
        if waits:
            back = {"state": JobState.ASSIGNED, "worker_id": worker_id, "assignment_id": assignment_id}
            self._set(job, **back, wake_at=after(LOOK_AGAIN))
            told = {"worker_id": worker_id, "assignment_id": assignment_id, "state": job.state}
            self._job_event(job_id, "JobStatusChanged", job.correlation_id, **told)
            self._count_kept(job_id, worker_id, assignment_id)
        Workers(self._session, self._events).free(worker_id)

    def _count_kept(self, job_id: JobId, worker_id: WorkerId, assignment_id: AssignmentId) -> None:
        """The result that was refused while the recovery had the job is one of its current assignment now."""
        kept = self._session.scalars(
            delete(JobResult).where(JobResult.assignment_id == assignment_id).returning(JobResult)
        ).one_or_none()
        if kept is not None:
            told: dict[str, Any] = {"exit_code": kept.exit_code, "error": kept.error, "log_lines": kept.log_lines}
            Runs(self._session, self._events).finish(job_id, worker_id, assignment_id, JobOutcome(kept.outcome), **told)

    def reassign(self, job_id: JobId, worker_id: WorkerId, assignment_id: AssignmentId) -> bool:
        """PENDING to ASSIGNED on the new worker, with a new attempt; twice is fine. False if either is not free."""
        job = self._lock(job_id)
        if job is not None and job.assignment_id == assignment_id:
            return True
        jobs, workers = Jobs(self._session, self._events), Workers(self._session, self._events)
        if not (jobs.assign(job_id, worker_id, assignment_id) and workers.occupy(worker_id)):
            return False
        jobs.announce_assigned(job_id, worker_id, assignment_id)
        return True

    def take_back(self, job_id: JobId, assignment_id: AssignmentId) -> bool:
        """Undo `reassign`: PENDING. False if the job is not, or no longer, running under that assignment."""
        job = self._lock(job_id)
        if job is None or job.assignment_id != assignment_id or job.state not in JOB_LIVE:
            return False
        self._set(job, **NOWHERE, attempts=job.attempts - 1, wake_at=after(LOOK_AGAIN))
        told = {"assignment_id": assignment_id, "state": job.state}
        self._job_event(job_id, "JobStatusChanged", job.correlation_id, **told)
        DueJobs(self._session, self._events).end_cancelled(job_id)
        return True

    def let_go(self, job_id: JobId, worker_id: WorkerId) -> tuple[Job | None, Worker | None]:
        """The old assignment is no longer good for anything; both rows, locked."""
        job, worker = self._lock(job_id), self._lock_worker(worker_id)
        if job is not None and job.lost_worker_id == worker_id:
            self._set(job, **FOUND)
        return job, worker

    def give_up(self, job: Job) -> None:
        """The job ends with its lost worker: CANCELLED if that was asked for, else FAILED, as no attempt is left."""
        cancelled = job.cancel_requested_at is not None
        spent = f"its worker {job.worker_id} was lost, and all of its {job.max_attempts} attempts are used up"
        self._set(
            job,
            state=JobState.CANCELLED if cancelled else JobState.FAILED,
            error=job.cancel_reason if cancelled else spent,
            finished_at=saga_now(),
            wake_at=None,
        )
        told = {"state": job.state, "worker_id": job.worker_id, "assignment_id": job.assignment_id}
        self._job_event(job.job_id, "JobFinished", job.correlation_id, **told)

    # --- parts -----------------------------------------------------------------------------------------------------

    def _lock(self, job_id: JobId) -> Job | None:
        query = select(Job).where(Job.job_id == job_id).with_for_update()
        return self._session.scalars(query, execution_options={"populate_existing": True}).one_or_none()

    def _lock_worker(self, worker_id: WorkerId) -> Worker | None:
        query = select(Worker).where(Worker.worker_id == worker_id).with_for_update()
        return self._session.scalars(query, execution_options={"populate_existing": True}).one_or_none()

    def _set(self, job: Job, **values: Any) -> None:
        """Change a job whose row we have locked."""
        before = JobState(job.state)
        target = JobState(values.get("state", before))
        assert target == before or before.can_transition_to(target), (before, target)
        self._session.execute(update(Job).where(Job.job_id == job.job_id).values(**values))
        self._session.refresh(job)


def _is_at(job: Job, worker_id: WorkerId, assignment_id: AssignmentId) -> bool:
    at = (job.worker_id, job.assignment_id) == (worker_id, assignment_id)
    return at and job.state in JOB_LIVE
