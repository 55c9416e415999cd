"""Execution: a PENDING job gets a worker and its command is on the way; if that fails, the job is PENDING again.

    ValidateJobState       the job waits
    UpdateJobToAssigned    ASSIGNED, the worker BUSY                   undo: PENDING, the worker READY
    SendRunJobCommand      RUN_JOB to the worker's own queue
    PublishJobAssigned     the event

The answers of a fast worker may come before any of these commits (L28): they name the assignment, which is on record
before the command is sent, and an undo leaves alone a job whose worker has answered.
"""

from __future__ import annotations

from typing import Any

from sagas import RetryPolicy, Saga, SagaContext, SagaType
from sagas.jobs.ports import CommandSender, JobBoard
from sagas.jobs.step import JobStep, field
from sagas.jobs.types import AssignmentId, JobId, WorkerId


def execution_payload(job_id: JobId, worker_id: WorkerId, assignment_id: AssignmentId) -> dict[str, Any]:
    """What an execution saga is started with."""
    return {"job_id": str(job_id), "worker_id": str(worker_id), "assignment_id": str(assignment_id)}


def _ids(ctx: SagaContext) -> tuple[JobId, WorkerId, AssignmentId]:
    return (
        field(ctx, "job_id", JobId),
        field(ctx, "worker_id", WorkerId),
        field(ctx, "assignment_id", AssignmentId),
    )


class ValidateJobStateStep(JobStep):
    """Refuses a job that does not wait any more, before anything was done."""

    name = "ValidateJobState"
    transactional = True

    def execute(self, ctx: SagaContext) -> None:
        ctx.port(JobBoard).check_pending(ctx.session, field(ctx, "job_id", JobId))


class UpdateJobToAssignedStep(JobStep):
    """The job's and the worker's rows, together with the step's record."""

    name = "UpdateJobToAssigned"
    transactional = True

    def execute(self, ctx: SagaContext) -> None:
        ctx.port(JobBoard).assign(ctx.session, *_ids(ctx))

    def compensate(self, ctx: SagaContext) -> None:
        ctx.port(JobBoard).unassign(ctx.session, *_ids(ctx))


class SendRunJobCommandStep(JobStep):
    """Sends the command. An agent runs one assignment once, however often it is told; a stray one is cancelled."""

    name = "SendRunJobCommand"
    timeout = 30.0
    retry = RetryPolicy(max_attempts=3, backoff=0.5)

    def __init__(self, sender: CommandSender | None = None) -> None:
        self._sender = sender

    def execute(self, ctx: SagaContext) -> None:
        job_id, worker_id, assignment_id = _ids(ctx)
        command = ctx.port(JobBoard).command(job_id)
        (self._sender or ctx.port(CommandSender)).send_run_job(worker_id, assignment_id, job_id, command)


class PublishJobAssignedStep(JobStep):
    """Tells the world."""

    name = "PublishJobAssigned"
    transactional = True

    def execute(self, ctx: SagaContext) -> None:
        ctx.port(JobBoard).announce_assigned(ctx.session, *_ids(ctx))


class ExecutionSaga(Saga):
    """The definition."""

    def __init__(self, sender: CommandSender | None = None) -> None:
        super().__init__(SagaType.EXECUTION)
        self.add(ValidateJobStateStep())
        self.add(UpdateJobToAssignedStep())
        self.add(SendRunJobCommandStep(sender))
        self.add(PublishJobAssignedStep())
