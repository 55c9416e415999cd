"""US-2.1 of the seed: the provisioning saga's steps, over ports that remember."""

import pytest

from providers.recording import Call, RecordingProvider
from sagas import NotReady, PermanentError, SagaContext, SagaId, SagaType
from sagas.jobs.ports import ProviderError, WorkerProvider, WorkerRegistry
from sagas.jobs.provisioning import (
    PROVIDER_QUEUE,
    CreateInfrastructureStep,
    ProvisioningSaga,
    RegisterWorkerStep,
    ValidateProviderCapacityStep,
    provisioning_payload,
)
from sagas.jobs.types import ProviderId, WorkerId, WorkerSpec

SPEC = WorkerSpec("image:latest", "server:50051")


class Registry:
    """Remembers the verbs that steps call."""

    def __init__(self, registered: bool = False) -> None:
        self.registered = registered
        self.calls: list[str] = []

    def issue_token(self, worker_id: WorkerId) -> str:
        self.calls.append("issue_token")
        return "token"

    def created(self, worker_id: WorkerId, reference: str) -> None:
        self.calls.append(f"created {reference}")

    def is_registered(self, session: object, worker_id: WorkerId) -> bool:
        return self.registered

    def unregister(self, session: object, worker_id: WorkerId) -> None:
        self.calls.append("unregister")


def context(worker_id: WorkerId, **ports) -> SagaContext:
    payload = provisioning_payload(worker_id, ProviderId.new(), "here", SPEC)
    ctx = SagaContext(SagaId.new(), SagaType.PROVISIONING, payload=payload, _session=object())
    ctx.ports = {WorkerProvider: ports.get("provider"), WorkerRegistry: ports.get("registry")}
    return ctx


def test_provisioning_saga_has_four_steps() -> None:
    saga = ProvisioningSaga()
    assert saga.name == SagaType.PROVISIONING
    assert [step.name for step in saga.steps] == [
        "ValidateProviderCapacity",
        "CreateInfrastructure",
        "RegisterWorker",
        "PublishProvisionedEvent",
    ]


def test_every_step_is_idempotent_and_those_that_leave_something_have_an_undo() -> None:
    steps = ProvisioningSaga().steps
    assert all(step.is_idempotent for step in steps)
    assert [step.has_compensation for step in steps] == [True, True, True, False]
    assert CreateInfrastructureStep().is_idempotent and CreateInfrastructureStep().has_compensation


def test_what_touches_infrastructure_runs_on_its_host_forward_and_back() -> None:
    create = ProvisioningSaga().get("CreateInfrastructure")
    assert create.queue == create.undo_queue == PROVIDER_QUEUE
    assert create.compensate_on_failure, "a half-made worker is destroyed too"


def test_create_infrastructure_calls_the_provider_with_a_token_of_record() -> None:
    provider, registry, worker_id = RecordingProvider(), Registry(), WorkerId.new()
    output = CreateInfrastructureStep(provider).execute(context(worker_id, registry=registry))
    assert provider.calls == [Call("create_worker", worker_id, SPEC)]
    assert registry.calls == ["issue_token", "created recorded"]
    assert output == {"reference": "recorded"}


def test_create_infrastructure_twice_is_one_worker() -> None:
    provider, worker_id = RecordingProvider(), WorkerId.new()
    ctx = context(worker_id, registry=Registry(), provider=provider)
    step = CreateInfrastructureStep()
    step.execute(ctx), step.execute(ctx)
    assert [handle.worker_id for handle in provider.find_workers()] == [worker_id]


def test_a_failed_creation_raises_and_its_undo_destroys() -> None:
    provider, worker_id = RecordingProvider(fail_create=1), WorkerId.new()
    step, ctx = CreateInfrastructureStep(provider), context(worker_id, registry=Registry())
    with pytest.raises(ProviderError):
        step.execute(ctx)
    step.compensate(ctx)
    assert [call.method for call in provider.calls] == ["create_worker", "destroy_worker"]


def test_register_waits_for_an_agent_that_lives() -> None:
    provider, worker_id = RecordingProvider(), WorkerId.new()
    provider.create_worker(worker_id, SPEC, "token")
    with pytest.raises(NotReady):
        RegisterWorkerStep(provider).execute(context(worker_id, registry=Registry()))
    RegisterWorkerStep(provider).execute(context(worker_id, registry=Registry(registered=True)))


def test_register_does_not_wait_for_an_agent_that_has_ended() -> None:
    with pytest.raises(PermanentError, match="has ended before it registered"):
        RegisterWorkerStep(RecordingProvider()).execute(context(WorkerId.new(), registry=Registry()))


def test_the_slot_is_given_back_last() -> None:
    """L14: unregistered only after destroy has worked: the undo of the first step, which runs last."""
    registry = Registry()
    ValidateProviderCapacityStep().compensate(context(WorkerId.new(), registry=registry))
    assert registry.calls == ["unregister"]


@pytest.mark.parametrize("spec", [None, "image", {"image": 1}, {}])
def test_a_spec_that_is_none_is_refused_in_one_line(spec) -> None:
    ctx = context(WorkerId.new(), registry=Registry())
    ctx.payload["spec"] = spec
    with pytest.raises(PermanentError, match="'spec'"):
        CreateInfrastructureStep(RecordingProvider()).execute(ctx)
