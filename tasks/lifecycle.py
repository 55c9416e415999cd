"""Makes workers, and says whether any of them is an orphan."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager

from celery import Celery

from models import Records
from sagas import HodeiError, SagaResult, SagaState
from sagas.jobs.ports import WorkerProvider
from sagas.jobs.types import ProviderId, WorkerId, WorkerSpec, WorkerState
from tasks.orchestrator import JobOrchestrator, Provisioning


class ProvisioningFailed(HodeiError):
    """The worker could not be made; what there was of it is undone, or listed by its saga."""


class WorkerLifecycleManager:
    """Delegates to the provisioning saga: no undo is written here."""

    def __init__(
        self,
        app: Celery,
        database_url: str,
        records: Callable[[], AbstractContextManager[Records]],
        orchestrator: JobOrchestrator,
        provider: Callable[[], WorkerProvider],
    ) -> None:
        self._app = app
        self._database_url = database_url
        self._records = records
        self._orchestrator = orchestrator
        self._provider = provider

    def provision_worker(
        self,
        provider_id: ProviderId,
        spec: WorkerSpec,
        *,
        idempotency_key: str | None = None,
        timeout: float | None = None,
    ) -> Provisioning:
        """Start to make a worker; with `timeout` (seconds) wait until it is READY.

        Raises ProviderNotFound, and when it waits ProvisioningFailed or SagaTimeout (the saga then goes on).
        """
        started = self._orchestrator.start_provisioning_saga(spec, provider_id, idempotency_key=idempotency_key)
        if timeout is not None:
            from sagas import SagaClient

            client = SagaClient(app=self._app, database_url=self._database_url)
            _require_completed(started.worker_id, client.handle(started.saga_id).result(timeout=timeout))
        return started

    def has_orphaned_workers(self) -> bool:
        """Whether this host has infrastructure without a row that wants it, or a row that lost its infrastructure.

        A worker that is coming up or going away belongs to its saga and is none.
        """
        exists = {handle.worker_id for handle in self._provider().find_workers()}
        with self._records() as records:
            rows = {WorkerId(row.worker_id): row.state for row in records.workers.list()}
        working = {worker for worker, state in rows.items() if state in (WorkerState.READY, WorkerState.BUSY)}
        return bool(exists - set(rows) or working - exists)


def _require_completed(worker_id: WorkerId, result: SagaResult) -> None:
    if result.outcome is not SagaState.COMPLETED:
        raise ProvisioningFailed(f"worker {worker_id} was not made ({result.outcome}): {result.error}")
