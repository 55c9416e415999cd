"""Termination: a worker that is no longer there gives its slot back, and what is left of it is destroyed.

ConfirmLost            its agent does not run; if it does, the saga ends CANCELLED and nothing was done
WithdrawWorker         no job any more; one that has a live job is left alone (L32)
DestroyInfrastructure  on its own host
UnregisterWorker       TERMINATED, only after destroy has worked (L14)
"""

from __future__ import annotations

from typing import Any

from sagas import CancelSaga, RetryPolicy, Saga, SagaContext
from sagas.jobs.ports import WorkerProvider, WorkerRegistry
from sagas.jobs.provisioning import PROVIDER_QUEUE
from sagas.jobs.step import JobStep, field
from sagas.jobs.types import WorkerId

TERMINATION = "termination"


def termination_payload(worker_id: WorkerId, host: str) -> dict[str, Any]:
    """What a termination saga is started with; `host` is where the worker's provider runs."""
    return {"worker_id": str(worker_id), "provider_host": host}


class ConfirmLostStep(JobStep):
    """Silence may be the network's; whether the agent runs is seen on its host."""

    name = "ConfirmLost"
    queue = PROVIDER_QUEUE

    def execute(self, ctx: SagaContext) -> None:
        worker_id = field(ctx, "worker_id", WorkerId)
        if ctx.port(WorkerProvider).is_alive(worker_id):
            raise CancelSaga(f"the agent of worker {worker_id} runs")


class WithdrawWorkerStep(JobStep):
    """From here on no job is given to it."""

    name = "WithdrawWorker"
    transactional = True

    def execute(self, ctx: SagaContext) -> None:
        ctx.port(WorkerRegistry).withdraw(ctx.session, field(ctx, "worker_id", WorkerId))


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
