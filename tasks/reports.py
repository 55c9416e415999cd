"""The acts behind the agents' messages: one transaction each, and after it the answer."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from models import Answer, Job, Records
from sagas.jobs.types import AssignmentId, JobId, JobOutcome, JobState, WorkerId, WorkerState
from tasks import due

if TYPE_CHECKING:
    from tasks.platform import Platform

logger = logging.getLogger(__name__)

GONE = (WorkerState.TERMINATING, WorkerState.TERMINATED)
"""States in which nobody wants the agent any more."""


def registered(platform: Platform, worker_id: str, instance_id: str, token: str) -> bool:
    """The agent has come up: answered as often as it asks. False for a token that is not the worker's, or was used."""
    worker = WorkerId(worker_id)
    with platform.records() as records:
        welcome = records.workers.register(worker, token, instance_id)
        row = records.workers.find(worker)
    if welcome:
        platform.sender.send_registered(worker)
    elif row is None or row.state in GONE:
        platform.sender.send_shutdown(worker)
    else:
        logger.warning("worker %s: registration of instance %s refused: wrong or used token", worker, instance_id)
    return welcome


def heartbeat(
    platform: Platform,
    worker_id: str,
    instance_id: str,
    assignments: Sequence[str],
    results: Sequence[Mapping[str, Any]],
) -> None:
    """A sign of life. What should run and is not listed is sent again; what is listed and should not, cancelled."""
    for told in results:
        result(platform, told)
    worker = WorkerId(worker_id)
    listed = {AssignmentId(one) for one in assignments}
    known = listed | {AssignmentId(told["assignment_id"]) for told in results}
    with platform.records() as records:
        seen = records.workers.seen(worker, instance_id)
        row, job = records.workers.find(worker), records.runs.current(worker)
        remind = job is not None and _must_be_told(records, job, known)
        # What a recovery has taken from it is good again if that is undone: its running is not stopped yet.
        listed -= records.recoveries.held(listed - {job.assignment_id if job is not None else None})
    if row is None or row.state in GONE:
        platform.sender.send_shutdown(worker)
    elif not seen:
        logger.warning("worker %s: heartbeat of instance %s ignored: another one has registered", worker, instance_id)
    else:
        _put_right(platform, worker, listed, job, remind)


def _put_right(platform: Platform, worker: WorkerId, listed: set[AssignmentId], job: Job | None, remind: bool) -> None:
    current = AssignmentId(job.assignment_id) if job is not None and job.assignment_id else None
    if job is not None and current in listed and job.state == JobState.ASSIGNED:
        accepted(platform, str(worker), str(current))  # its own message may have been lost with the broker
    if job is not None and remind:
        due.remind(platform, job)
    for stray in listed - {current}:
        platform.sender.send_cancel_job(worker, stray)


def _must_be_told(records: Records, job: Job, known: set[AssignmentId]) -> bool:
    """Cancelled and not ended yet; or assigned, its dispatch complete, and yet the worker does not know of it."""
    assert job.assignment_id is not None
    forgotten = AssignmentId(job.assignment_id) not in known
    return job.cancel_requested_at is not None or (forgotten and not records.jobs.is_moved(job))


def accepted(platform: Platform, worker_id: str, assignment_id: str) -> Answer:
    """The agent has begun. One that began what is no longer its own is told to stop."""
    with platform.records() as records:
        answer = records.runs.accept(AssignmentId(assignment_id))
        held = records.recoveries.held([AssignmentId(assignment_id)])
    if answer is Answer.REFUSED and not held:
        platform.sender.send_cancel_job(WorkerId(worker_id), AssignmentId(assignment_id))
    return answer


def result(platform: Platform, told: Mapping[str, Any]) -> Answer:
    """How an assignment ended. Acknowledged whatever it was worth: it is on record, or its job is not ours (L33)."""
    worker, assignment = WorkerId(told["worker_id"]), AssignmentId(told["assignment_id"])
    with platform.records() as records:
        # An assignment that was cancelled before it came to the worker: the agent was never told its job.
        job_id = JobId(told["job_id"]) if told.get("job_id") else records.runs.job_of(assignment)
        answer = Answer.REFUSED
        if job_id is not None and records.workers.find(worker) is not None:
            answer = records.runs.finish(
                job_id,
                worker,
                assignment,
                JobOutcome(told["outcome"]),
                exit_code=told.get("exit_code"),
                error=told.get("error"),
                log_lines=told.get("log_lines"),
            )
        if answer is Answer.COUNTED:
            records.workers.free(worker)
    platform.sender.send_ack(worker, assignment)
    if answer is Answer.COUNTED:
        platform.sender.hint_dispatch()
    return answer


def log(platform: Platform, job_id: str, assignment_id: str, rows: Sequence[Sequence[Any]]) -> int:
    """Pieces of output, as (number, stream, text). How many were new."""
    pieces = [(int(number), str(stream), str(text)) for number, stream, text in rows]
    with platform.records() as records:
        return records.runs.log(JobId(job_id), AssignmentId(assignment_id), pieces)
