"""What can happen to a job before it runs: the verbs of submission and dispatch. Each says its states in its WHERE."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any

from sqlalchemy import Select, or_, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from models.events import Recorder, RecordsEvents, after, saga_now
from models.saga import SagaRecord, open_sagas
from models.tables import Job
from sagas import HodeiError, IdempotencyKeyReused, SagaState
from sagas.jobs.requirements import Requirements
from sagas.jobs.types import AssignmentId, JobCommand, JobId, JobState, WorkerId

LOOK_AGAIN = 60.0
"""Seconds until a job that did not move is looked at again."""
BLOCKED_PAUSE = 10.0
"""Seconds until a job is looked at again that no provider can make a worker for."""
BLOCK_AT_ONCE = 1000
PROVISION_BACKOFF = (1.0, 300.0)
"""Seconds between a provisioning that failed and the next for the same job: doubled each round, up to the most."""
FRESH: Mapping[str, Any] = {"blocked": None, "not_before": None, "exit_code": None, "error": None}
"""What is said of a job that waits, and of the run before, no longer holds when it is assigned."""


def provision_pause(job: Job) -> timedelta:
    """From a provisioning in vain to the next one for this job: doubled each round."""
    first, longest = PROVISION_BACKOFF
    return timedelta(seconds=min(longest, first * 2 ** min(job.round, 16)))


class JobNotFound(HodeiError):
    """There is no job with that id."""


class Jobs:
    """The verbs on jobs, in the caller's transaction."""

    def __init__(self, session: Session, events: RecordsEvents) -> None:
        self._session = session
        self._record = Recorder(session, events, "job")

    # --- reading ---------------------------------------------------------------------------------------------------

    def find(self, job_id: JobId | uuid.UUID) -> Job | None:
        """The job as it is in the database now, or None."""
        return self._session.get(Job, uuid.UUID(str(job_id)), populate_existing=True)

    def get(self, job_id: JobId | uuid.UUID) -> Job:
        """The job; JobNotFound if there is none."""
        job = self.find(job_id)
        if job is None:
            raise JobNotFound(f"no job {job_id}; `hodei job list` shows what there is")
        return job

    def list(self, states: Sequence[JobState] = (), limit: int = 50) -> Sequence[Job]:
        """The latest jobs first."""
        query = select(Job).order_by(Job.created_at.desc()).limit(limit)
        return self._session.scalars(query.where(Job.state.in_(states)) if states else query).all()

    # --- verbs -----------------------------------------------------------------------------------------------------

    def submit(
        self,
        command: JobCommand,
        *,
        job_id: JobId | None = None,
        priority: int = 5,
        max_attempts: int = 3,
        retry_failed: bool = False,
        requirements: Requirements | None = None,
        idempotency_key: str | None = None,
        correlation_id: str | None = None,
        actor: str | None = None,
    ) -> JobId:
        """Write a new PENDING job; with a key (or an id) that was used before, its first job.

        A run whose worker is lost is repeated until `max_attempts`; one that failed or took too long only if
        `retry_failed`. Raises IdempotencyKeyReused if the first job has another command or other requirements.
        """
        if max_attempts < 1:
            raise ValueError("job: 'max_attempts' must be at least 1")
        chosen, asked = job_id or JobId.new(), requirements or Requirements()
        row = insert(Job).values(
            job_id=chosen,
            state=JobState.PENDING,
            command=command.to_json(),
            priority=priority,
            max_attempts=max_attempts,
            retry_failed=retry_failed,
            requirements=asked.to_json(),
            idempotency_key=idempotency_key,
            correlation_id=correlation_id,
            actor=actor,
            wake_at=saga_now(),
        )
        written = self._session.scalar(row.on_conflict_do_nothing().returning(Job.job_id))
        if written is None:
            return self._same(chosen, command, asked, idempotency_key)
        self._record(chosen, "JobSubmitted", correlation_id, program=command.program, actor=actor)
        return chosen

    def _same(self, job_id: JobId, command: JobCommand, asked: Requirements, key: str | None) -> JobId:
        same = Job.job_id == job_id if key is None else or_(Job.job_id == job_id, Job.idempotency_key == key)
        job = self._session.scalars(select(Job).where(same)).one()
        other = "another command" if JobCommand.from_json(job.command) != command else None
        other = other or ("other requirements" if Requirements.from_json(job.requirements) != asked else None)
        if other:
            name = f"key {key!r}" if key is not None else "this id"
            raise IdempotencyKeyReused(f"{name} belongs to job {job.job_id}, which has {other}; use a new one")
        return JobId(job.job_id)

    def claim_next_pending(
        self, skip: Sequence[uuid.UUID] = (), without: Sequence[Mapping[str, Any]] = ()
    ) -> Job | None:
        """Lock the first job that waits for a worker and that no saga moves; another dispatcher skips it.

        None of `skip`, and none that asks for one of `without`.
        """
        waiting = (
            select(Job)
            .where(Job.state == JobState.PENDING, Job.job_id.not_in(skip), Job.cancel_requested_at.is_(None))
            .where(or_(Job.not_before.is_(None), Job.not_before <= saga_now()))
            .where(*(Job.requirements != asked for asked in without))
            .where(or_(Job.owner_saga_id.is_(None), Job.owner_saga_id.not_in(open_sagas())))
            .order_by(Job.priority, Job.created_at, Job.job_id)
            .limit(1)
        )
        return self._session.scalars(_locking(waiting, skip_locked=True)).one_or_none()

    def lock_pending(self, job_id: JobId) -> Job | None:
        """The same for one job: None if it does not wait, or a saga moves it. Waits for another dispatcher."""
        job = self._session.scalars(_locking(select(Job).where(Job.job_id == job_id))).one_or_none()
        free = job is not None and job.state == JobState.PENDING and job.cancel_requested_at is None
        return job if free and job is not None and not self.is_moved(job) else None

    def block(self, asked: Mapping[str, Any], why: str) -> None:
        """No provider can make the worker that these jobs wait for: it is told once, and looked at again later."""
        free = (Job.state == JobState.PENDING, or_(Job.not_before.is_(None), Job.not_before <= saga_now()))
        same = select(Job).where(Job.requirements == asked, *free).limit(BLOCK_AT_ONCE)
        jobs = self._session.scalars(_locking(same, skip_locked=True)).all()
        for job in jobs:
            if job.blocked != why:
                self._record(job.job_id, "JobBlocked", job.correlation_id, reason=why)
        values = {"blocked": why, "not_before": after(BLOCKED_PAUSE), "wake_at": after(BLOCKED_PAUSE)}
        self._session.execute(update(Job).where(Job.job_id.in_([job.job_id for job in jobs])).values(**values))

    def begin_round(self, job: Job) -> int:
        """A job whose last saga has ended and which still waits: the next round, so that its keys are new ones."""
        if job.owner_saga_id is not None:
            job.round += 1
            job.owner_saga_id = None
        job.blocked = job.not_before = None
        self._session.flush()
        return job.round

    def give_to(self, job: Job, saga_id: uuid.UUID) -> None:
        """From now on this execution saga moves the job."""
        job.owner_saga_id = uuid.UUID(str(saga_id))
        self._session.flush()

    def awaits_worker(self, job: Job) -> bool:
        """Whether a saga makes a worker for this job, or the next one is not due yet; otherwise a new round begins.

        After a saga that made none there is a pause, doubled each round.
        """
        if job.provisioning_saga_id is None:
            return False
        saga = self._session.get(SagaRecord, job.provisioning_saga_id, populate_existing=True)
        if saga is not None and saga.completed_at is None:
            return True
        if saga is not None and saga.state != SagaState.COMPLETED:
            due = select(SagaRecord.completed_at + provision_pause(job) <= saga_now())
            if not self._session.scalar(due.where(SagaRecord.saga_id == saga.saga_id)):
                return True
        job.round += 1
        job.provisioning_saga_id = job.awaited_worker_id = None
        self._session.flush()
        return False

    def await_worker(self, job: Job, saga_id: uuid.UUID | None, worker_id: WorkerId) -> None:
        """This saga makes a worker for the job; None: it is made without one."""
        job.provisioning_saga_id = uuid.UUID(str(saga_id)) if saga_id is not None else None
        job.awaited_worker_id = uuid.UUID(str(worker_id))
        job.blocked = job.not_before = None
        job.wake_at = after(LOOK_AGAIN)
        self._session.flush()
        self._record(job.job_id, "WorkerRequested", job.correlation_id, saga_id=saga_id, worker_id=worker_id)

    def assign(self, job_id: JobId, worker_id: WorkerId, assignment_id: AssignmentId) -> bool:
        """PENDING to ASSIGNED, on this worker, under this assignment; False if the job is no longer free."""
        changed = self._move(
            Job.job_id == job_id,
            Job.state == JobState.PENDING,
            Job.attempts < Job.max_attempts,
            Job.cancel_requested_at.is_(None),
            state=JobState.ASSIGNED,
            worker_id=worker_id,
            assignment_id=assignment_id,
            attempts=Job.attempts + 1,
            assigned_at=saga_now(),
            **FRESH,
            wake_at=after(LOOK_AGAIN),
        )
        return self._changed(changed, "JobStatusChanged", worker_id=worker_id, assignment_id=assignment_id)

    def unassign(self, job_id: JobId, assignment_id: AssignmentId) -> bool:
        """ASSIGNED back to PENDING, if it still has this assignment and no sign of life came from its worker."""
        changed = self._move(
            Job.job_id == job_id,
            Job.assignment_id == assignment_id,
            Job.state == JobState.ASSIGNED,
            state=JobState.PENDING,
            worker_id=None,
            assignment_id=None,
            attempts=Job.attempts - 1,
            assigned_at=None,
            wake_at=saga_now(),
        )
        return self._changed(changed, "JobStatusChanged", assignment_id=assignment_id)

    def announce_assigned(self, job_id: JobId, worker_id: WorkerId, assignment_id: AssignmentId) -> None:
        """The event of a dispatch that is complete: the command is on its way."""
        job = self._session.scalars(_locking(select(Job).where(Job.job_id == job_id))).one()
        self._record(job_id, "JobAssigned", job.correlation_id, worker_id=worker_id, assignment_id=assignment_id)

    def is_moved(self, job: Job) -> bool:
        """Whether a saga moves the job now."""
        if job.owner_saga_id is None:
            return False
        saga = self._session.get(SagaRecord, job.owner_saga_id, populate_existing=True)
        return saga is not None and saga.completed_at is None

    def _move(self, *where: Any, **values: Any) -> Job | None:
        statement = update(Job).where(*where).values(**values).returning(Job)
        options = {"populate_existing": True, "synchronize_session": False}
        return self._session.scalars(statement, execution_options=options).one_or_none()

    def _changed(self, job: Job | None, event_type: str, **payload: Any) -> bool:
        if job is None:
            return False
        self._record(job.job_id, event_type, job.correlation_id, state=job.state, **payload)
        return True


def _locking(query: Select[Job], skip_locked: bool = False) -> Select[Job]:
    return query.with_for_update(skip_locked=skip_locked).execution_options(populate_existing=True)
