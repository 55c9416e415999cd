"""US-5.3: dispatcher and lifecycle manager over the recording orchestrator: what they start, and nothing runs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from providers.recording import RecordingProvider
from sagas import SagaId, SagaOrchestrator, SagaState, SagaType
from sagas.jobs.execution import ExecutionSaga
from sagas.testing import RecordingOrchestrator
from tasks.dispatcher import JobDispatcher
from tasks.lifecycle import WorkerLifecycleManager
from tasks.orchestrator import JobOrchestrator
from tasks.worker_settings import WorkerSettings
from tests.platform.conftest import HOST, SPEC


@pytest.fixture
def recording() -> RecordingOrchestrator:
    return RecordingOrchestrator()


@pytest.fixture
def hints() -> list[SagaId]:
    return []


@pytest.fixture
def dispatcher(recording: RecordingOrchestrator, records: Callable[..., Any], hints: list[SagaId]) -> JobDispatcher:
    return JobDispatcher(records, JobOrchestrator(recording, records), hints.append, lambda: SPEC, silent_for=20)


def test_the_double_is_an_orchestrator(recording) -> None:
    """dispatcher_tests_should_use_mock_saga_orchestrator: it answers as it is told."""
    double: SagaOrchestrator = recording
    assert double.execute_saga(ExecutionSaga()).outcome is SagaState.COMPLETED
    recording.outcome = SagaState.COMPENSATED
    assert double.execute_saga(ExecutionSaga()).outcome is SagaState.COMPENSATED
    assert double.start_saga("order", {}, idempotency_key="k") == double.start_saga("order", {}, idempotency_key="k")
    assert [one.executed for one in recording.started] == [True, True, False]


def test_assign_and_dispatch_starts_an_execution_saga(dispatcher, recording, rows, hints, query) -> None:
    """US-3.2: assign_and_dispatch_should_delegate_to_saga; no row is moved by the dispatcher itself."""
    worker_id, job_id = rows.ready_worker(rows.provider()), rows.job()
    started = dispatcher.assign_and_dispatch(job_id, worker_id)
    (saga,) = recording.started
    assert (saga.saga_id, saga.saga_type) == (started, SagaType.EXECUTION)
    assert (saga.payload["job_id"], saga.payload["worker_id"]) == (str(job_id), str(worker_id))
    assert hints == [started]
    assert query("SELECT state FROM jobs") == [{"state": "PENDING"}]
    assert query("SELECT state FROM workers") == [{"state": "READY"}]


@pytest.mark.parametrize(("ready", "expected"), [(True, SagaType.EXECUTION), (False, SagaType.PROVISIONING)])
def test_dispatch_once_starts_what_a_job_needs(dispatcher, recording, rows, ready, expected) -> None:
    """US-3.2 criterion 2: an execution where a worker is ready, a provisioning where none is."""
    provider_id = rows.provider()
    if ready:
        rows.ready_worker(provider_id)
    rows.job()
    done = dispatcher.dispatch_once()
    (saga,) = recording.started
    assert saga.saga_type == expected
    assert (done.executions, done.provisionings) == (([saga.saga_id], []) if ready else ([], [saga.saga_id]))


def test_handle_no_available_workers_starts_a_provisioning_saga(dispatcher, recording, rows, hints) -> None:
    """US-3.2: handle_no_available_workers_should_delegate_to_saga."""
    rows.provider()
    job_id = rows.job()
    started = dispatcher.handle_no_available_workers(job_id)
    (saga,) = recording.started
    assert (saga.saga_id, saga.saga_type) == (started, SagaType.PROVISIONING)
    assert recording.is_idempotent(SagaType.PROVISIONING, f"job:{job_id}:0")
    assert hints == [started]


def test_provision_worker_starts_a_provisioning_saga(platform, recording, records, rows, query) -> None:
    """US-2.2: provision_worker_should_start_saga."""
    orchestrator = JobOrchestrator(recording, records)
    settings, here = WorkerSettings(), ("process", HOST)
    url = platform.settings.database_url
    manager = WorkerLifecycleManager(
        platform.app, url, records, orchestrator, RecordingProvider, silent_for=20, settings=settings, here=here
    )
    started = manager.provision_worker(rows.provider(), SPEC)
    (saga,) = recording.started
    assert (saga.saga_id, saga.saga_type) == (started.saga_id, SagaType.PROVISIONING)
    assert saga.payload["worker_id"] == str(started.worker_id)
    assert query("SELECT * FROM workers") == []
