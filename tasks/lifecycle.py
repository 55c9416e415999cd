"""Makes workers, and says whether any of them is an orphan."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager

from celery import Celery

from models import Records
from sagas import HodeiError, SagaId, SagaResult, SagaState
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

    def terminate_lost(self, silent_for: float) -> list[SagaId]:
        """Give up READY workers that were silent for so many seconds; each saga first looks whether that is true."""
        with self._records() as records:
            hosts = {provider.provider_id: provider.host for provider in records.providers.list()}
            lost = records.workers.lost(silent_for)
        return [
            self._orchestrator.start_termination_saga(
                WorkerId(worker.worker_id),
                hosts[worker.provider_id],
                # One saga for each silence: if the worker lived, its next silence is another one.
                idempotency_key=f"lost:{worker.worker_id}:{worker.last_seen_at:%Y%m%d%H%M%S}",
            )
            for worker in lost
        ]

    def withdraw_dead(self, host: str) -> list[SagaId]:
        """When this host's provider starts: READY workers whose agents do not run get no job from here on."""
        provider = self._provider()
        with self._records() as records:
            ours = {one.provider_id for one in records.providers.list() if one.host == host}
            ready = [row for row in records.workers.list() if row.state == WorkerState.READY]
            here = [WorkerId(row.worker_id) for row in ready if row.provider_id in ours]
            gone = [one for one in here if not provider.is_alive(one) and records.workers.withdraw(one)]
            # Row and saga in one transaction: nobody is withdrawn without somebody who ends it.
            return [
                self._orchestrator.start_termination_saga(
                    one, host, idempotency_key=f"dead:{one}", session=records.session
                )
                for one in gone
            ]

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
