"""Brings waiting jobs and workers together. It decides and starts sagas; every change of a row is a saga's."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field

from models import Job, Provider, Records, Worker
from sagas import SagaId
from sagas.jobs.types import JobId, ProviderId, WorkerId, WorkerSpec
from tasks.orchestrator import JobOrchestrator

MOST_AT_ONCE = 200
"""Jobs in one round, so that a round is short whatever waits; the next one is a second away."""


@dataclass
class Round:
    """What one round has started."""

    executions: list[SagaId] = field(default_factory=list)
    provisionings: list[SagaId] = field(default_factory=list)


def round_key(job: Job) -> str:
    """One key for a job and its round: whoever starts its saga, and however often, it is one saga."""
    return f"job:{job.job_id}:{job.round}"


class JobDispatcher:
    """`publish` is the hint after a commit; without it the engine's reconcile finds the saga a moment later.

    A worker that was silent for `silent_for` seconds gets no job.
    """

    def __init__(
        self,
        records: Callable[[], AbstractContextManager[Records]],
        orchestrator: JobOrchestrator,
        publish: Callable[[SagaId], object],
        default_spec: Callable[[], WorkerSpec],
        silent_for: float,
    ) -> None:
        self._records = records
        self._orchestrator = orchestrator
        self._publish = publish
        self._default_spec = default_spec
        self._silent_for = silent_for

    def dispatch_once(self) -> Round:
        """Give every READY worker a waiting job, and have workers made for the jobs that are left."""
        done, seen = Round(), list[uuid.UUID]()
        while len(seen) < MOST_AT_ONCE:
            with self._records() as records:
                job = records.jobs.claim_next_pending(skip=seen)
                if job is None:
                    break
                seen.append(job.job_id)
                worker = records.workers.claim_ready(self._silent_for)
                provider = None if worker else self._free_slot(records)
                if worker is not None:
                    started: SagaId | None = self._execute(records, job, worker)
                elif provider is not None:
                    started = self._provision(records, job, provider)
                else:
                    break  # the jobs behind this one would find nothing either
            if started is not None:
                self._publish(started)
                (done.executions if worker else done.provisionings).append(started)
        return done

    def assign_and_dispatch(self, job_id: JobId, worker_id: WorkerId) -> SagaId | None:
        """Send this job to this worker. None if the job does not wait, or a saga moves it already (L8)."""
        with self._records() as records:
            job = records.jobs.lock_pending(job_id)
            worker = records.workers.find(worker_id)
            if job is None or worker is None:
                return None
            started = self._execute(records, job, worker)
        self._publish(started)
        return started

    def handle_no_available_workers(self, job_id: JobId) -> SagaId | None:
        """Have a worker made for a job that waits. However often it is called, one saga at a time does it (L7, L17).

        None if the job does not wait, or no provider has a free slot.
        """
        with self._records() as records:
            job = records.jobs.lock_pending(job_id)
            if job is None:
                return None
            provider = records.providers.with_free_slot()
            started = self._provision(records, job, provider) if provider else None
            saga_id = job.provisioning_saga_id
        if started is not None:
            self._publish(started)
        return SagaId(saga_id) if saga_id else None

    def _free_slot(self, records: Records) -> Provider | None:
        """Where a worker may be made; nowhere while one is idle that we could not lock (L9): the next round gets it."""
        if records.workers.any_ready(self._silent_for):
            return None
        return records.providers.with_free_slot()

    def _execute(self, records: Records, job: Job, worker: Worker) -> SagaId:
        """Start the execution saga; it owns the job and the worker until it ends."""
        records.jobs.begin_round(job)
        saga_id = self._orchestrator.start_execution_saga(
            JobId(job.job_id),
            WorkerId(worker.worker_id),
            idempotency_key=round_key(job),
            correlation_id=job.correlation_id,
            actor=job.actor,
            session=records.session,
        )
        records.jobs.give_to(job, saga_id)
        records.workers.give_to(WorkerId(worker.worker_id), saga_id)
        return saga_id

    def _provision(self, records: Records, job: Job, provider: Provider) -> SagaId | None:
        """Start the provisioning saga, unless one is under way, or its next round is not due."""
        if records.jobs.awaits_worker(job):
            return None
        started = self._orchestrator.start_provisioning_saga(
            self._default_spec(),
            ProviderId(provider.provider_id),
            idempotency_key=round_key(job),
            correlation_id=job.correlation_id,
            actor=job.actor,
            session=records.session,
        )
        records.jobs.await_worker(job, started.saga_id, started.worker_id)
        return started.saga_id
