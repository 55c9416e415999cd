"""Provisioning: from "we need a worker" to an agent that is up and READY; if that fails, nothing of it is left.

    ValidateProviderCapacity   reserves the slot: two sagas cannot take the last one     undo: gives it back
    CreateInfrastructure       the provider makes it, on its own host                    undo: destroys it
    RegisterWorker             the agent has come up and used its one-time token         undo: no jobs any more
    PublishProvisionedEvent    READY, with its event

The undo runs upwards, so that the slot is given back and the row TERMINATED only after destroy has worked (L14).
READY comes with the last step: a worker that has a job is never in a saga that may still go back.
"""

from __future__ import annotations

from typing import Any

from sagas import NotReady, PermanentError, RetryPolicy, Saga, SagaContext, SagaType
from sagas.jobs.ports import WorkerProvider, WorkerRegistry
from sagas.jobs.step import JobStep, field
from sagas.jobs.types import ProviderId, WorkerId, WorkerSpec

PROVIDER_QUEUE = "provider.{provider_host}"
REGISTER_TIMEOUT = 60.0
"""Seconds for an agent to come up."""


def provisioning_payload(worker_id: WorkerId, provider_id: ProviderId, host: str, spec: WorkerSpec) -> dict[str, Any]:
    """What a provisioning saga is started with; `host` is where the provider's steps must run."""
    return {
        "worker_id": str(worker_id),
        "provider_id": str(provider_id),
        "provider_host": host,
        "spec": spec.to_json(),
    }


def _spec(ctx: SagaContext) -> WorkerSpec:
    try:
        return WorkerSpec.from_json(ctx.payload["spec"])
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise PermanentError(f"payload of {ctx.saga_type}: 'spec': {error}") from None


class ValidateProviderCapacityStep(JobStep):
    """Takes a slot of the provider."""

    name = "ValidateProviderCapacity"
    transactional = True

    def execute(self, ctx: SagaContext) -> None:
        worker_id, provider_id = field(ctx, "worker_id", WorkerId), field(ctx, "provider_id", ProviderId)
        standing_in: dict[str, Any] = {}
        if "replaces" in ctx.payload:
            standing_in = {"kept_for": ctx.payload["kept_for"], "replaces": field(ctx, "replaces", WorkerId)}
        ctx.port(WorkerRegistry).reserve(ctx.session, worker_id, provider_id, _spec(ctx), **standing_in)

    def compensate(self, ctx: SagaContext) -> None:
        ctx.port(WorkerRegistry).unregister(ctx.session, field(ctx, "worker_id", WorkerId))


class CreateInfrastructureStep(JobStep):
    """Has the worker made. What is half made is found by the worker's id and destroyed too."""

    name = "CreateInfrastructure"
    compensate_on_failure = True
    queue = PROVIDER_QUEUE
    timeout = 60.0
    retry = RetryPolicy(max_attempts=3, backoff=0.5)
    compensation_retry = RetryPolicy(max_attempts=20, backoff=0.5, max_backoff=300)

    def __init__(self, provider: WorkerProvider | None = None) -> None:
        self._provider = provider

    def execute(self, ctx: SagaContext) -> dict[str, str]:
        worker_id, registry = field(ctx, "worker_id", WorkerId), ctx.port(WorkerRegistry)
        handle = self._of(ctx).create_worker(worker_id, _spec(ctx), registry.issue_token(worker_id))
        registry.created(worker_id, handle.reference)
        return {"reference": handle.reference}

    def compensate(self, ctx: SagaContext) -> None:
        self._of(ctx).destroy_worker(field(ctx, "worker_id", WorkerId))

    def _of(self, ctx: SagaContext) -> WorkerProvider:
        return self._provider or ctx.port(WorkerProvider)


class RegisterWorkerStep(JobStep):
    """Done when the agent has registered. Runs where the agent should be, so that its early death is seen at once."""

    name = "RegisterWorker"
    transactional = True
    queue = PROVIDER_QUEUE

    def __init__(self, provider: WorkerProvider | None = None, timeout: float = REGISTER_TIMEOUT) -> None:
        self._provider = provider
        self.timeout = timeout

    def execute(self, ctx: SagaContext) -> None:
        worker_id = field(ctx, "worker_id", WorkerId)
        if ctx.port(WorkerRegistry).is_registered(ctx.session, worker_id):
            return
        if not (self._provider or ctx.port(WorkerProvider)).is_alive(worker_id):
            raise PermanentError(f"the agent of worker {worker_id} has ended before it registered")
        raise NotReady(f"the agent of worker {worker_id} has not registered yet", retry_in=0.5)

    def compensate(self, ctx: SagaContext) -> None:
        ctx.port(WorkerRegistry).retire(ctx.session, field(ctx, "worker_id", WorkerId))


class PublishProvisionedEventStep(JobStep):
    """The worker is READY, and the world is told so, in one transaction."""

    name = "PublishProvisionedEvent"
    transactional = True

    def execute(self, ctx: SagaContext) -> dict[str, str]:
        worker_id, provider_id = field(ctx, "worker_id", WorkerId), field(ctx, "provider_id", ProviderId)
        ctx.port(WorkerRegistry).ready(ctx.session, worker_id, provider_id)
        return {"worker_id": str(worker_id)}


class ProvisioningSaga(Saga):
    """The definition. `register_timeout` is in seconds."""

    def __init__(self, provider: WorkerProvider | None = None, register_timeout: float = REGISTER_TIMEOUT) -> None:
        super().__init__(SagaType.PROVISIONING)
        self.add(ValidateProviderCapacityStep())
        self.add(CreateInfrastructureStep(provider))
        self.add(RegisterWorkerStep(provider, register_timeout))
        self.add(PublishProvisionedEventStep())
