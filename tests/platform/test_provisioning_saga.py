"""US-2.1 and US-2.2: the provisioning saga on real rows, driven in the test's process, over providers that remember."""

import pytest

from sagas import SagaState, SagaTimeout
from sagas.jobs.ports import WorkerProvider
from sagas.jobs.types import ProviderId
from tasks import reports
from tasks.lifecycle import ProvisioningFailed
from tests.platform.conftest import SPEC
from tests.platform.ports import FastAgents


@pytest.fixture
def provider() -> FastAgents:
    return FastAgents()


@pytest.fixture
def platform(make_platform, provider):
    platform = make_platform(ports={WorkerProvider: provider}, register_timeout=1.0)
    provider.register = lambda worker_id, token: reports.registered(platform, str(worker_id), "instance", token)
    return platform


def provision(platform, provider_id: ProviderId):
    started = platform.lifecycle.provision_worker(provider_id, SPEC)
    return started, platform.engine.orchestrator.drive(started.saga_id)


def states(query) -> list[str]:
    return [row["state"] for row in query("SELECT state FROM workers ORDER BY created_at")]


def test_a_worker_is_made_and_ready(platform, provider, rows, query, events) -> None:
    """L3: the agent registers while CreateInfrastructure is not committed yet."""
    started, result = provision(platform, rows.provider())
    assert (result.outcome, result.steps_executed) == (SagaState.COMPLETED, 4)
    assert states(query) == ["READY"]
    assert provider.count("create_worker") == 1
    assert events(f"worker:{started.worker_id}")[-1] == "WorkerProvisioned"
    assert not platform.lifecycle.has_orphaned_workers()


def test_provision_worker_delegates_to_the_saga(platform, rows, query) -> None:
    started = platform.lifecycle.provision_worker(rows.provider(), SPEC)
    (saga,) = query("SELECT * FROM saga_instances")
    assert (str(saga["saga_id"]), saga["saga_type"]) == (str(started.saga_id), "provisioning")
    assert saga["context"]["payload"]["worker_id"] == str(started.worker_id)
    assert states(query) == []


def test_one_key_is_one_worker(platform, rows) -> None:
    provider_id = rows.provider()
    first = platform.lifecycle.provision_worker(provider_id, SPEC, idempotency_key="k")
    assert platform.lifecycle.provision_worker(provider_id, SPEC, idempotency_key="k") == first


def test_two_sagas_cannot_take_the_last_slot(platform, provider, rows, query) -> None:
    provider_id = rows.provider(capacity=1)
    first, second = (platform.lifecycle.provision_worker(provider_id, SPEC) for _ in range(2))
    results = [platform.engine.orchestrator.drive(one.saga_id) for one in (first, second)]
    assert [result.outcome for result in results] == [SagaState.COMPLETED, SagaState.COMPENSATED]
    assert "no free slot" in (results[1].error or "")
    assert provider.count("create_worker") == 1
    assert states(query) == ["READY"]


def test_an_agent_that_never_comes_up_is_destroyed_and_its_slot_given_back(platform, provider, rows, query) -> None:
    provider.register = None
    provider_id = rows.provider(capacity=1)
    _, result = provision(platform, provider_id)
    assert (result.outcome, result.compensations_executed) == (SagaState.COMPENSATED, 2)
    assert provider.find_workers() == []
    assert states(query) == ["TERMINATED"]
    with rows.records() as records:
        assert records.providers.lock_slots(provider_id) == 1
    assert not platform.lifecycle.has_orphaned_workers()


def test_a_registry_that_refuses_undoes_the_infrastructure(platform, provider, rows, query) -> None:
    """US-2.2: if RegisterWorker fails, CreateInfrastructure is undone, and no orphan is left."""

    def withdraw(worker_id, token) -> None:
        with rows.records() as records:
            records.workers.retire(worker_id)

    provider.register = withdraw
    _, result = provision(platform, rows.provider())
    assert result.outcome is SagaState.COMPENSATED
    assert "cannot be registered" in (result.error or "")
    assert provider.count("destroy_worker") == 1
    assert states(query) == ["TERMINATED"]
    assert not platform.lifecycle.has_orphaned_workers()


def test_a_half_made_worker_is_destroyed_too(platform, provider, rows, query) -> None:
    provider.fail_create = 3
    _, result = provision(platform, rows.provider())
    assert result.outcome is SagaState.COMPENSATED
    assert (provider.count("create_worker"), provider.count("destroy_worker")) == (3, 1)
    assert states(query) == ["TERMINATED"]


def test_the_row_stays_until_destroy_has_worked(platform, provider, rows, query) -> None:
    """L14: unregistered although destroy had failed: an invisible orphan. Destroy fails three times, then works."""
    seen: list[list[str]] = []
    destroy = provider.destroy_worker

    def watching(worker_id) -> None:
        seen.append(states(query))
        destroy(worker_id)

    provider.destroy_worker, provider.register, provider.fail_destroy = watching, None, 3
    _, result = provision(platform, rows.provider())
    assert result.outcome is SagaState.COMPENSATED
    assert seen == [["CONNECTING"]] * 4
    assert states(query) == ["TERMINATED"]


def test_whoever_waits_is_told_that_it_failed(platform, rows) -> None:
    provider_id = rows.provider(capacity=0)
    started = platform.lifecycle.provision_worker(provider_id, SPEC, idempotency_key="k")
    with pytest.raises(SagaTimeout):
        platform.lifecycle.provision_worker(provider_id, SPEC, idempotency_key="k", timeout=0.1)
    platform.engine.orchestrator.drive(started.saga_id)
    with pytest.raises(ProvisioningFailed, match="no free slot"):
        platform.lifecycle.provision_worker(provider_id, SPEC, idempotency_key="k", timeout=5)


def test_infrastructure_without_a_row_and_a_row_without_infrastructure_are_orphans(platform, provider, rows) -> None:
    started, _ = provision(platform, rows.provider())
    provider.destroy_worker(started.worker_id)
    assert platform.lifecycle.has_orphaned_workers()
    provider.create_worker(started.worker_id, SPEC, "token")
    assert not platform.lifecycle.has_orphaned_workers()
    with rows.records() as records:
        records.workers.unregister(started.worker_id)
    assert platform.lifecycle.has_orphaned_workers()
