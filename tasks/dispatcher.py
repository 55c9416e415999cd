"""Brings waiting jobs and workers together. It decides and starts sagas; every change of a row is a saga's."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any

from models import Job, Provider, Records, Worker
from sagas import SagaId
from sagas.jobs.requirements import Requirements
from sagas.jobs.types import JobId, ProviderId, WorkerId, WorkerSpec
from tasks.direct import DirectRun
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
        done, seen, in_vain = Round(), list[uuid.UUID](), list[dict[str, Any]]()
        while len(seen) < MOST_AT_ONCE:
            with self._records() as records:
                job = records.jobs.claim_next_pending(skip=seen, without=in_vain)
                if job is None:
                    break
                seen.append(job.job_id)
                asked = Requirements.from_json(job.requirements)
                worker = records.workers.claim_ready(self._silent_for, asked)
                provider = None if worker else self._room_for(records, asked)
                if worker is not None:
                    started: SagaId | None = self._execute(records, job, worker)
                elif provider is not None:
                    started = self._provision(records, job, provider, asked)
                else:
                    started = None
                    in_vain.append(job.requirements)  # those behind this one that ask for the same would find nothing
            if started is not None:
                self._publish(started)
                (done.executions if worker else done.provisionings).append(started)
        return done

    def assign_and_dispatch(self, job_id: JobId, worker_id: WorkerId) -> SagaId | None:
        """Send this job to this worker.

        None if the job does not wait, a saga moves it already (L8), or the worker is not what the job asks for.
        """
        with self._records() as records:
            job = records.jobs.lock_pending(job_id)
            worker = records.workers.find(worker_id)
            if job is None or worker is None:
                return None
            if not records.workers.any_that_meets(Requirements.from_json(job.requirements), worker_id):
                return None
            started = self._execute(records, job, worker)
        self._publish(started)
        return started

    def handle_no_available_workers(self, job_id: JobId) -> SagaId | None:
        """Have a worker made for a job that waits. However often it is called, one saga at a time does it (L7, L17).

        None if the job does not wait, such a worker is idle, or no provider has room for one.
        """
        with self._records() as records:
            job = records.jobs.lock_pending(job_id)
            if job is None:
                return None
            asked = Requirements.from_json(job.requirements)
            provider = self._room_for(records, asked)
            started = self._provision(records, job, provider, asked) if provider else None
            saga_id = job.provisioning_saga_id
        if started is not None:
            self._publish(started)
        return started or (SagaId(saga_id) if saga_id else None)

    def _room_for(self, records: Records, asked: Requirements) -> Provider | None:
        """Where such a worker may be made now. If that is nowhere and never, the jobs that ask for it say so."""
        provider = records.providers.with_room(asked)
        why = None if provider or records.workers.any_that_meets(asked) else records.providers.why_never(asked)
        if why is not None:
            records.jobs.block(asked.to_json(), why)
        return provider

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
        if not isinstance(saga_id, DirectRun):
            records.jobs.give_to(job, saga_id)
            records.workers.give_to(WorkerId(worker.worker_id), saga_id)
        return saga_id

    def _provision(self, records: Records, job: Job, provider: Provider, asked: Requirements) -> SagaId | None:
        """Start the saga that makes such a worker, unless one is under way or idle, or its next round is not due."""
        if self._orchestrator.awaits_worker(records, job):
            return None
        # Looked at after its saga: the worker may have come up meanwhile, or be one that we could not lock (L9).
        if records.workers.any_ready(self._silent_for, asked):
            return None
        started = self._orchestrator.start_provisioning_saga(
            self._default_spec().meeting(asked),
            ProviderId(provider.provider_id),
            idempotency_key=round_key(job),
            path_key=str(job.job_id),
            correlation_id=job.correlation_id,
            actor=job.actor,
            session=records.session,
        )
        saga_id = None if isinstance(started.saga_id, DirectRun) else started.saga_id
        records.jobs.await_worker(job, saga_id, started.worker_id)
        return started.saga_id
