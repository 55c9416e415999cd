"""Jobs that are due are looked at, cancelled ones are stopped; messages are repeated until they have come through."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from models import Job
from sagas.jobs.types import AssignmentId, JobCommand, JobId, JobState, WorkerId

if TYPE_CHECKING:
    from tasks.platform import Platform

logger = logging.getLogger(__name__)


def cancel_job(platform: Platform, job_id: JobId, reason: str = "cancelled", actor: str | None = None) -> Job:
    """Have a job stopped, in whatever state it is: its row as it is then. Raises JobNotFound.

    One that waits is CANCELLED. One that is on a worker ends when its worker says how: CANCELLED, or as it ended before
    the message came; the wish is on record first, so that a message which is lost is sent again.
    """
    with platform.records() as records:
        job = records.due.cancel(job_id, reason, actor)
    try:
        remind(platform, job)
    except OSError as error:
        logger.warning("job %s: its worker is told later that it is cancelled: %s", job_id, error)
    return job


def remind(platform: Platform, job: Job) -> None:
    """Send a job's worker what it should do, again: an agent runs, and cancels, one assignment once."""
    if job.worker_id is None or job.assignment_id is None or JobState(job.state).is_terminal:
        return
    worker, assignment = WorkerId(job.worker_id), AssignmentId(job.assignment_id)
    if job.cancel_requested_at is not None:
        platform.sender.send_cancel_job(worker, assignment)
    elif job.state == JobState.ASSIGNED:
        platform.sender.send_run_job(worker, assignment, JobId(job.job_id), JobCommand.from_json(job.command))


def reconcile(platform: Platform) -> int:
    """Look at the jobs that are due, and move what does not move by itself. How many there were.

    PENDING: it was cancelled, the rest is the dispatcher's. ASSIGNED: its RUN_JOB may be lost with the broker.
    RUNNING: its agent repeats the result until it is acknowledged; a CANCEL_JOB may be lost.
    """
    with platform.records() as records:
        due = records.due.take()
        for job in due:
            records.due.end_cancelled(JobId(job.job_id))
        # While its execution saga goes on, the command is that one's to send.
        ours = [job for job in due if job.cancel_requested_at is not None or not records.jobs.is_moved(job)]
    for job in ours:
        remind(platform, job)
    return len(due)
