"""What becomes due for a job by itself (P14), and its cancellation, which is repeated until it has come through."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import or_, select, update
from sqlalchemy.orm import Session

from models.events import Recorder, RecordsEvents, after, saga_now
from models.jobs import LOOK_AGAIN, JobNotFound
from models.tables import JOB_LIVE, Job
from sagas.jobs.types import JobId, JobState

AT_ONCE = 200


class DueJobs:
    """The verbs on jobs that somebody must look at, in the caller's transaction."""

    def __init__(self, session: Session, events: RecordsEvents) -> None:
        self._session = session
        self._record = Recorder(session, events, "job")

    def cancel(self, job_id: JobId, reason: str, actor: str | None = None) -> Job:
        """Note the wish; a job that waits is CANCELLED at once, one that is on a worker when its worker says so (L30).

        Returns the job, which may have ended before. Raises JobNotFound.
        """
        job = self._lock(job_id)
        if job is None:
            raise JobNotFound(f"no job {job_id}; `hodei job list` shows what there is")
        if JobState(job.state).is_terminal:
            return job
        if job.cancel_requested_at is None:
            wish = {"cancel_requested_at": saga_now(), "cancel_reason": reason}
            self._session.execute(update(Job).where(Job.job_id == job_id).values(**wish))
            self._record(job_id, "JobCancelRequested", job.correlation_id, reason=reason, actor=actor)
        if job.state == JobState.PENDING:
            self.end_cancelled(job_id)
        self._session.refresh(job)
        return job

    def end_cancelled(self, job_id: JobId) -> bool:
        """PENDING to CANCELLED, if that was asked for."""
        ended: dict[str, Any] = {"state": JobState.CANCELLED, "finished_at": saga_now(), "wake_at": None}
        waiting = (Job.job_id == job_id, Job.state == JobState.PENDING, Job.cancel_requested_at.is_not(None))
        job = self._session.scalars(
            update(Job).where(*waiting).values(**ended, error=Job.cancel_reason).returning(Job),
            execution_options={"populate_existing": True, "synchronize_session": False},
        ).one_or_none()
        if job is not None:
            self._record(job_id, "JobFinished", job.correlation_id, state=job.state)
        return job is not None

    def take(self, limit: int = AT_ONCE) -> Sequence[Job]:
        """The jobs that are due, longest first; each is due again later, whatever comes of it. Others skip them.

        One that waits is looked at by the dispatcher, each second; here only if it should not be dispatched any more.
        """
        ours = or_(Job.state.in_(JOB_LIVE), Job.cancel_requested_at.is_not(None))
        due = select(Job).where(Job.wake_at <= saga_now(), ours).order_by(Job.wake_at)
        jobs = self._session.scalars(due.limit(limit).with_for_update(skip_locked=True)).all()
        again = update(Job).where(Job.job_id.in_([job.job_id for job in jobs])).values(wake_at=after(LOOK_AGAIN))
        self._session.execute(again, execution_options={"synchronize_session": False})
        return jobs

    def _lock(self, job_id: JobId) -> Job | None:
        locked = select(Job).where(Job.job_id == job_id).with_for_update()
        return self._session.scalars(locked, execution_options={"populate_existing": True}).one_or_none()
