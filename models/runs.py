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
        """The result of an assignment, kept by its id; it ends the job if the assignment is still the job's."""
        told: dict[str, Any] = {"exit_code": exit_code, "error": clean(error), "log_lines": log_lines}
        job = self._end(job_id, worker_id, assignment_id, outcome, told)
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
            self._record(job_id, "JobFinished", job.correlation_id, **said)
            return Answer.COUNTED
        if new is None:
            return Answer.KNOWN
        self._record(job_id, "JobResultRefused", None, assignment_id=assignment_id, outcome=outcome)
        return Answer.REFUSED

    def find(self, job_id: JobId) -> JobState | None:
        """The job's state, or None if there is no such job."""
        state = self._session.scalar(select(Job.state).where(Job.job_id == job_id))
        return JobState(state) if state else None

    def _end(
        self,
        job_id: JobId,
        worker_id: WorkerId,
        assignment_id: AssignmentId,
        outcome: JobOutcome,
        told: Mapping[str, Any],
    ) -> Job | None:
        """End the job, if it has this assignment."""
        return self._session.scalars(
            update(Job)
            .where(Job.job_id == job_id, Job.worker_id == worker_id, Job.assignment_id == assignment_id)
            .where(Job.state.in_(JOB_LIVE))
            .values(
                state=outcome.job_state,
                finished_at=saga_now(),
                started_at=func.coalesce(Job.started_at, saga_now()),
                wake_at=None,
                **told,
            )
            .returning(Job)
        ).one_or_none()

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
        rows = select(JobLog).where(JobLog.job_id == uuid.UUID(str(job_id)), JobLog.line_number > after_line)
        if assignment_id is not None:
            rows = rows.where(JobLog.assignment_id == assignment_id)
        return iter(self._session.scalars(rows.order_by(JobLog.assignment_id, JobLog.line_number)).all())


def clean(text: str | None) -> str | None:
    """PostgreSQL's text has no NUL; what a program writes may."""
    return text.replace("\0", "\N{REPLACEMENT CHARACTER}") if text else text
