"""What a worker reports of a run: acceptance, output, result. In any order, twice, late: the assignment decides."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping, Sequence
from enum import StrEnum
from typing import Any

from sqlalchemy import func, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from models.events import Recorder, RecordsEvents, after, saga_now
from models.jobs import LOOK_AGAIN
from models.tables import JOB_LIVE, Job, JobLog, JobResult
from sagas.jobs.types import AssignmentId, JobId, JobOutcome, JobState, WorkerId

RETRY_BACKOFF = (1.0, 60.0)
"""Seconds between a run that failed and the next one: doubled each time, up to the most."""
REPEATED = (JobOutcome.FAILED, JobOutcome.TIMED_OUT)
"""What is run again, if whoever submitted the job asked for that."""


class Answer(StrEnum):
    """What a report was worth."""

    COUNTED = "counted"
    KNOWN = "known"
    """It came before: the stored answer stands."""
    REFUSED = "refused"
    """The assignment is no longer its job's; a result is kept all the same."""


class Runs:
    """The verbs on what runs, in the caller's transaction."""

    def __init__(self, session: Session, events: RecordsEvents) -> None:
        self._session = session
        self._record = Recorder(session, events, "job")

    def current(self, worker_id: WorkerId) -> Job | None:
        """The job that this worker has, or None."""
        return self._session.scalars(
            select(Job).where(Job.worker_id == worker_id, Job.state.in_(JOB_LIVE))
        ).one_or_none()

    def accept(self, assignment_id: AssignmentId) -> Answer:
        """ASSIGNED to RUNNING; an acceptance after the result says nothing new (L5)."""
        job = self._session.scalars(
            update(Job)
            .where(Job.assignment_id == assignment_id, Job.state == JobState.ASSIGNED)
            .values(state=JobState.RUNNING, started_at=saga_now(), wake_at=after(LOOK_AGAIN))
            .returning(Job)
        ).one_or_none()
        if job is not None:
            self._record(job.job_id, "JobAccepted", job.correlation_id, assignment_id=assignment_id)
            return Answer.COUNTED
        known = self._session.scalar(select(Job.job_id).where(Job.assignment_id == assignment_id))
        return Answer.KNOWN if known else Answer.REFUSED

    def finish(
        self,
        job_id: JobId,
        worker_id: WorkerId,
        assignment_id: AssignmentId,
        outcome: JobOutcome,
        *,
        exit_code: int | None = None,
        error: str | None = None,
        log_lines: int | None = None,
    ) -> Answer:
        """The result of an assignment, kept by its id; if the assignment is still the job's, it ends the job, or the
        job is run again.
        """
        told: dict[str, Any] = {"exit_code": exit_code, "error": clean(error), "log_lines": log_lines}
        current = (Job.job_id == job_id, Job.worker_id == worker_id, Job.assignment_id == assignment_id)
        job = self._run_again(current, outcome, told) or self._end(current, outcome, told)
        if job is None and not self._lock(job_id):
            return Answer.REFUSED
        kept = insert(JobResult).values(
            assignment_id=assignment_id,
            job_id=job_id,
            worker_id=worker_id,
            outcome=outcome,
            counted=job is not None,
            **told,
        )
        new = self._session.scalar(kept.on_conflict_do_nothing().returning(JobResult.assignment_id))
        if job is not None:
            said = {"state": job.state, "exit_code": exit_code, "assignment_id": assignment_id, "worker_id": worker_id}
            finished = JobState(job.state).is_terminal
            self._record(job_id, "JobFinished" if finished else "JobRunFailed", job.correlation_id, **said)
            return Answer.COUNTED
        if new is None:
            return Answer.KNOWN
        self._record(job_id, "JobResultRefused", None, assignment_id=assignment_id, outcome=outcome)
        return Answer.REFUSED

    def find(self, job_id: JobId) -> JobState | None:
        """The job's state, or None if there is no such job."""
        state = self._session.scalar(select(Job.state).where(Job.job_id == job_id))
        return JobState(state) if state else None

    def ended(self, job_id: JobId) -> dict[uuid.UUID, int]:
        """The runs whose results counted, in their order: how many pieces of output each has."""
        counted = select(JobResult.assignment_id, JobResult.log_lines).where(
            JobResult.job_id == job_id, JobResult.counted
        )
        rows = self._session.execute(counted.order_by(JobResult.received_at))
        return {assignment_id: lines or 0 for assignment_id, lines in rows}

    def _run_again(self, current: Sequence[Any], outcome: JobOutcome, told: Mapping[str, Any]) -> Job | None:
        """A run that failed: PENDING once more, after a pause, if whoever submitted the job asked for that."""
        if outcome not in REPEATED:
            return None
        first, longest = RETRY_BACKOFF
        seconds = func.least(longest, first * func.power(2, func.least(Job.attempts - 1, 16)))
        due = saga_now() + func.make_interval(0, 0, 0, 0, 0, 0, seconds)
        wanted = (Job.retry_failed, Job.attempts < Job.max_attempts, Job.cancel_requested_at.is_(None))
        return self._update(
            *(*current, *wanted),
            state=JobState.PENDING,
            worker_id=None,
            assignment_id=None,
            assigned_at=None,
            started_at=None,
            not_before=due,
            wake_at=due,
            **told,
        )

    def _end(self, current: Sequence[Any], outcome: JobOutcome, told: Mapping[str, Any]) -> Job | None:
        """End the job."""
        return self._update(
            *current,
            state=outcome.job_state,
            finished_at=saga_now(),
            started_at=func.coalesce(Job.started_at, saga_now()),
            wake_at=None,
            **told,
        )

    def _update(self, *where: Any, **values: Any) -> Job | None:
        """A job that is on a worker."""
        live = update(Job).where(*where, Job.state.in_(JOB_LIVE)).values(**values).returning(Job)
        options = {"populate_existing": True, "synchronize_session": False}
        return self._session.scalars(live, execution_options=options).one_or_none()

    def _lock(self, job_id: JobId) -> bool:
        """The job's row, so that its events keep their order; False if there is none."""
        return self._session.scalar(select(Job.job_id).where(Job.job_id == job_id).with_for_update()) is not None

    def job_of(self, assignment_id: AssignmentId) -> JobId | None:
        """Whose assignment it is now."""
        job_id = self._session.scalar(select(Job.job_id).where(Job.assignment_id == assignment_id))
        return JobId(job_id) if job_id else None

    def log(self, job_id: JobId, assignment_id: AssignmentId, records: Sequence[tuple[int, str, str]]) -> int:
        """Keep pieces of output, (number, stream, text); those that came before are dropped. How many were new."""
        if not records or self.find(job_id) is None:
            return 0
        rows = [
            {
                "job_id": job_id,
                "assignment_id": assignment_id,
                "line_number": number,
                "stream": stream,
                "content": clean(text) or "",
            }
            for number, stream, text in records
        ]
        written = insert(JobLog).values(rows).on_conflict_do_nothing().returning(JobLog.log_id)
        return len(self._session.scalars(written).all())

    def output(
        self, job_id: JobId | uuid.UUID, assignment_id: uuid.UUID | None = None, after_line: int = 0
    ) -> Iterator[JobLog]:
        """The output of one assignment in order, behind the given number; of the job's latest one if none is named."""
        of_job = JobLog.job_id == uuid.UUID(str(job_id))
        latest = select(JobLog.assignment_id).where(of_job).order_by(JobLog.log_id.desc()).limit(1)
        one = JobLog.assignment_id == (latest.scalar_subquery() if assignment_id is None else assignment_id)
        rows = select(JobLog).where(of_job, one, JobLog.line_number > after_line).order_by(JobLog.line_number)
        return iter(self._session.scalars(rows).all())


def clean(text: str | None) -> str | None:
    """PostgreSQL's text has no NUL; what a program writes may."""
    return text.replace("\0", "\N{REPLACEMENT CHARACTER}") if text else text
