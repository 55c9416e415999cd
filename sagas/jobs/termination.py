"""Termination: a worker that is not wanted any more, or no longer there, gives its slot back; nothing of it is left.

ConfirmLost            what was taken for lost and is not: the saga ends CANCELLED, and nothing was done
WithdrawWorker         no job any more; one that has a live job is left alone (L32)
DestroyInfrastructure  on its own host
UnregisterWorker       TERMINATED, only after destroy has worked (L14)
"""

from __future__ import annotations

from enum import StrEnum
from typing import Any

from sagas import CancelSaga, PermanentError, RetryPolicy, Saga, SagaContext
from sagas.jobs.ports import WorkerProvider, WorkerRegistry
from sagas.jobs.provisioning import PROVIDER_QUEUE
from sagas.jobs.step import JobStep, field
from sagas.jobs.types import WorkerId

TERMINATION = "termination"


class Reason(StrEnum):
    """Why a worker is terminated. By the last four it has no way back when the saga starts."""

    DEAD = "dead"
    """Its agent does not run; seen on its host."""
    SILENT = "silent"
    """Nothing was heard of it, and it has no job."""
    IDLE = "idle"
    """It had no job for a long time."""
    OLD = "old"
    """It has lived long enough."""
    RECOVERED = "recovered"
    """Its job has gone to another worker."""
    GIVEN_UP = "given up"
    """It is lost, and its job has ended with it."""
    ZOMBIE = "zombie"
    """It exists, and its row is at its end or gone."""
    STRANDED = "stranded"
    """It comes up or goes away, and no saga sees to it."""

    @property
    def is_final(self) -> bool:
        """Whether somebody has decided already."""
        return self in (Reason.RECOVERED, Reason.GIVEN_UP, Reason.ZOMBIE, Reason.STRANDED)


def termination_payload(worker_id: WorkerId, host: str, reason: Reason = Reason.DEAD) -> dict[str, Any]:
    """What a termination saga is started with; `host` is where the worker's provider runs."""
    return {"worker_id": str(worker_id), "provider_host": host, "reason": str(reason)}


def _reason(ctx: SagaContext) -> Reason:
    try:
        return Reason(ctx.payload.get("reason", Reason.DEAD))
    except ValueError as error:
        raise PermanentError(f"payload of {ctx.saga_type}: 'reason': {error}") from None


class ConfirmLostStep(JobStep):
    """Whether the agent runs is seen on its host; whether a silent one speaks again, by its heartbeats."""

    name = "ConfirmLost"
    queue = PROVIDER_QUEUE

    def execute(self, ctx: SagaContext) -> None:
        worker_id, reason = field(ctx, "worker_id", WorkerId), _reason(ctx)
        if reason is Reason.DEAD and ctx.port(WorkerProvider).is_alive(worker_id):
            raise CancelSaga(f"the agent of worker {worker_id} runs")
        if reason is Reason.SILENT and ctx.port(WorkerRegistry).heard_since(worker_id, ctx.started_at):
            raise CancelSaga(f"worker {worker_id} has come back")


class WithdrawWorkerStep(JobStep):
    """From here on no job is given to it."""

    name = "WithdrawWorker"
    transactional = True

    def execute(self, ctx: SagaContext) -> None:
        registry, worker_id = ctx.port(WorkerRegistry), field(ctx, "worker_id", WorkerId)
        if _reason(ctx).is_final:
            registry.retire(ctx.session, worker_id)
        else:
            registry.withdraw(ctx.session, worker_id)


class DestroyInfrastructureStep(JobStep):
    """Patient: until it has worked the row stays, and its slot is taken."""

    name = "DestroyInfrastructure"
    queue = PROVIDER_QUEUE
    timeout = 60.0
    retry = RetryPolicy(max_attempts=20, backoff=0.5, max_backoff=300)

    def execute(self, ctx: SagaContext) -> None:
        ctx.port(WorkerProvider).destroy_worker(field(ctx, "worker_id", WorkerId))


class UnregisterWorkerStep(JobStep):
    """The end of its row, with its event."""

    name = "UnregisterWorker"
    transactional = True

    def execute(self, ctx: SagaContext) -> None:
        ctx.port(WorkerRegistry).unregister(ctx.session, field(ctx, "worker_id", WorkerId))


class TerminationSaga(Saga):
    """The definition."""

    def __init__(self) -> None:
        super().__init__(TERMINATION)
        for step in (ConfirmLostStep(), WithdrawWorkerStep(), DestroyInfrastructureStep(), UnregisterWorkerStep()):
            self.add(step)
