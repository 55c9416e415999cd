"""The recording provider behaves as a provider does."""

import pytest

from providers.recording import Call, RecordingProvider
from sagas.jobs.ports import ProviderError, WorkerProvider
from sagas.jobs.types import WorkerId
from tests.providers.conftest import SPEC


def test_it_remembers_calls_and_has_no_effect() -> None:
    provider = RecordingProvider()
    port: WorkerProvider = provider
    worker_id = WorkerId.new()
    handle = port.create_worker(worker_id, SPEC, "token")
    assert port.create_worker(worker_id, SPEC, "token") == handle
    assert port.find_workers() == [handle]
    assert port.is_alive(worker_id)
    port.destroy_worker(worker_id)
    port.destroy_worker(worker_id)
    assert port.find_workers() == []
    assert not port.is_alive(worker_id)
    create, destroy = Call("create_worker", worker_id, SPEC), Call("destroy_worker", worker_id)
    assert provider.calls == [create, create, destroy, destroy]
    assert "token" not in repr(provider.calls)


def test_it_fails_as_often_as_it_is_told() -> None:
    """L14: destroy fails three times, then works."""
    provider, worker_id = RecordingProvider(fail_create=1, fail_destroy=3), WorkerId.new()
    with pytest.raises(ProviderError):
        provider.create_worker(worker_id, SPEC, "token")
    provider.create_worker(worker_id, SPEC, "token")
    for _ in range(3):
        with pytest.raises(ProviderError):
            provider.destroy_worker(worker_id)
        assert provider.is_alive(worker_id)
    provider.destroy_worker(worker_id)
    assert not provider.is_alive(worker_id)
