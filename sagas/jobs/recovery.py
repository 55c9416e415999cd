"""Recovery: a worker with a job has fallen silent; the job goes to a new one, and the old one is terminated.

    DetectHeartbeatTimeout  still silent, and the job still its own
    MarkJobForReassignment  the job waits, and belongs to this saga   undo: restore it, or take the refused result
    ProvisionNewWorker      a provisioning saga; the worker is kept for this job
    ReassignJob             a new assignment, and RUN_JOB             undo: CANCEL_JOB, confirmed
    TerminateOldWorker      no way back: a termination saga has it

A heartbeat of the old worker that is newer than this saga says that it lives: until TerminateOldWorker has decided the
saga then ends CANCELLED, the old worker has its job again, and the new one is undone. A result of the old assignment is
kept in the meantime, and counts if the job goes back.
"""

from __future__ import annotations

import uuid
from typing import Any

from sagas import CancelSaga, HodeiError, NotReady, RetryPolicy, Saga, SagaContext, SagaType
from sagas.jobs.ports import CommandSender, JobBoard, RecoveryDesk
from sagas.jobs.provisioning import provisioning_payload
from sagas.jobs.step import JobStep, field
from sagas.jobs.types import AssignmentId, JobId, WorkerId

NAMESPACE = uuid.UUID("0d8d7c0e-6f3d-4f0b-9a53-7265636f7665")
ROOM_TIMEOUT = 60.0
"""Seconds to wait for a provider that has room for the new worker."""
PATIENCE = 12
"""Attempts to hear that the new worker has stopped the job; then its own undo, which destroys it, must do."""


class NotConfirmed(HodeiError):
    """The new worker has not said yet that it has stopped the job."""


def recovery_payload(job_id: JobId, worker_id: WorkerId, assignment_id: AssignmentId, host: str) -> dict[str, Any]:
    """What a recovery saga is started with: the silent worker, its host, and what it was doing."""
    return {
        "job_id": str(job_id),
        "worker_id": str(worker_id),
        "assignment_id": str(assignment_id),
        "provider_host": host,
    }


def _lost(ctx: SagaContext) -> tuple[JobId, WorkerId, AssignmentId]:
    return (
        field(ctx, "job_id", JobId),
        field(ctx, "worker_id", WorkerId),
        field(ctx, "assignment_id", AssignmentId),
    )


def _require_silence(ctx: SagaContext, session: Any = None) -> None:
    """Raises CancelSaga when the old worker has been heard since this saga began."""
    worker_id = field(ctx, "worker_id", WorkerId)
    if ctx.port(RecoveryDesk).came_back(worker_id, ctx.started_at, session):
        raise CancelSaga(f"worker {worker_id} has come back")


def _reassignment(ctx: SagaContext) -> tuple[WorkerId, AssignmentId]:
    """The new worker, and the one assignment that this saga gives it."""
    made = ctx.outputs["ProvisionNewWorker"]["outputs"]["PublishProvisionedEvent"]
    worker_id = WorkerId(made["worker_id"])
    return worker_id, AssignmentId(uuid.uuid5(NAMESPACE, f"{ctx.saga_id}:{worker_id}"))


class DetectHeartbeatTimeoutStep(JobStep):
    """Between the look that started this saga and now the worker may have been heard, or its job have ended."""

    name = "DetectHeartbeatTimeout"
    transactional = True

    def execute(self, ctx: SagaContext) -> None:
        _require_silence(ctx, ctx.session)
        if not ctx.port(RecoveryDesk).heartbeat_missed(ctx.session, *_lost(ctx)):
            raise CancelSaga("the job is no longer this worker's")


class MarkJobForReassignmentStep(JobStep):
    """From here on a result of the old assignment is refused, and kept."""

    name = "MarkJobForReassignment"
    transactional = True

    def execute(self, ctx: SagaContext) -> None:
        _require_silence(ctx, ctx.session)
        if not ctx.port(RecoveryDesk).take_away(ctx.session, *_lost(ctx)):
            raise CancelSaga("the job is no longer this worker's")

    def compensate(self, ctx: SagaContext) -> None:
        ctx.port(RecoveryDesk).give_back(ctx.session, *_lost(ctx))


def new_worker(ctx: SagaContext) -> dict[str, Any]:
    """The payload of the provisioning saga that is step ProvisionNewWorker."""
    _require_silence(ctx)
    job_id, old, _ = _lost(ctx)
    place = ctx.port(RecoveryDesk).replacement(job_id, old)
    if place is None:
        raise NotReady(f"no provider has room for a worker in the place of {old}", retry_in=1.0)
    provider_id, host, spec = place
    payload = provisioning_payload(WorkerId.new(), provider_id, host, spec)
    return {**payload, "kept_for": str(ctx.saga_id), "replaces": str(old)}


class ReassignJobStep(JobStep):
    """The job's row first, then the command (L28)."""

    name = "ReassignJob"
    timeout = 30.0
    compensate_on_failure = True
    retry = RetryPolicy(max_attempts=3, backoff=0.5)
    compensation_retry = RetryPolicy(max_attempts=2 * PATIENCE, backoff=0.3, factor=1.2, max_backoff=2)

    def __init__(self, sender: CommandSender | None = None) -> None:
        self._sender = sender

    def execute(self, ctx: SagaContext) -> dict[str, str]:
        _require_silence(ctx)
        job_id, _, _ = _lost(ctx)
        worker_id, assignment_id = _reassignment(ctx)
        ctx.port(RecoveryDesk).reassign(job_id, worker_id, assignment_id)
        self._of(ctx).send_run_job(worker_id, assignment_id, job_id, ctx.port(JobBoard).command(job_id))
        return {"worker_id": str(worker_id), "assignment_id": str(assignment_id)}

    def compensate(self, ctx: SagaContext) -> None:
        job_id, _, _ = _lost(ctx)
        worker_id, assignment_id = _reassignment(ctx)
        if ctx.port(RecoveryDesk).has_stopped(job_id, worker_id, assignment_id):
            return
        self._of(ctx).send_cancel_job(worker_id, assignment_id, grace=2)
        if ctx.attempt < PATIENCE:
            raise NotConfirmed(f"worker {worker_id} has not stopped assignment {assignment_id} yet")

    def _of(self, ctx: SagaContext) -> CommandSender:
        return self._sender or ctx.port(CommandSender)


class TerminateOldWorkerStep(JobStep):
    """The point of no return, in one transaction: no job any more, and a saga of its own has the worker's end.

    Not done here: a destroy that fails, or a host that does not come back, must not undo a job that runs elsewhere.
    """

    name = "TerminateOldWorker"
    transactional = True

    def execute(self, ctx: SagaContext) -> dict[str, str | None]:
        job_id, worker_id, _ = _lost(ctx)
        saga_id = ctx.port(RecoveryDesk).condemn(ctx.session, job_id, worker_id, ctx.started_at, ctx.saga_id)
        return {"termination_saga_id": str(saga_id) if saga_id else None}


class RecoverySaga(Saga):
    """The definition."""

    def __init__(self, sender: CommandSender | None = None) -> None:
        super().__init__(SagaType.RECOVERY)
        self.add(DetectHeartbeatTimeoutStep())
        self.add(MarkJobForReassignmentStep())
        self.child("ProvisionNewWorker", SagaType.PROVISIONING, payload=new_worker, timeout=ROOM_TIMEOUT)
        self.add(ReassignJobStep(sender))
        self.add(TerminateOldWorkerStep())
