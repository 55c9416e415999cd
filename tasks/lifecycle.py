"""Makes workers, finds those that are lost, unwanted or forgotten, and starts the sagas that see to them.

It decides and starts; every change of a row but one is a saga's: where a lost worker's job has no attempt left, nobody
can come back for it, and it ends here with the saga's start.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Collection
from contextlib import AbstractContextManager
from dataclasses import dataclass, field

from celery import Celery

from models import Job, Records, Worker
from models.saga import SagaRecord
from sagas import HodeiError, SagaId, SagaResult, SagaState
from sagas.jobs.ports import WorkerProvider
from sagas.jobs.termination import TERMINATION, Reason
from sagas.jobs.types import AssignmentId, JobId, ProviderId, WorkerId, WorkerSpec, WorkerState
from tasks.direct import DirectRun
from tasks.direct_workers import result_of
from tasks.orchestrator import JobOrchestrator, Provisioning
from tasks.worker_settings import WorkerSettings

HEARTBEATS = "heartbeats"


class ProvisioningFailed(HodeiError):
    """The worker could not be made; what there was of it is undone, or listed by its saga."""


@dataclass
class Reconciliation:
    """The sagas that one look has started."""

    recoveries: list[SagaId] = field(default_factory=list)
    terminations: list[SagaId] = field(default_factory=list)

    def __iadd__(self, other: Reconciliation) -> Reconciliation:
        self.recoveries += other.recoveries
        self.terminations += other.terminations
        return self


class WorkerLifecycleManager:
    """Delegates to sagas: no undo is written here. `here` is the kind and host of this process's provider.

    A worker that was silent for `silent_for` seconds is lost; `has_backlog` says whether heartbeats wait unread. If
    nobody looked for more than `gap` seconds (half of it), we cannot have heard.
    """

    def __init__(
        self,
        app: Celery,
        database_url: str,
        records: Callable[[], AbstractContextManager[Records]],
        orchestrator: JobOrchestrator,
        provider: Callable[[], WorkerProvider],
        *,
        silent_for: float,
        gap: float | None = None,
        settings: WorkerSettings,
        here: tuple[str, str],
        has_backlog: Callable[[], bool] = lambda: False,
    ) -> None:
        self._app = app
        self._database_url = database_url
        self._records = records
        self._orchestrator = orchestrator
        self._provider = provider
        self._silent_for = silent_for
        self._gap = silent_for / 2 if gap is None else gap
        self._settings = settings
        self._here = here
        self._has_backlog = has_backlog

    # --- making ------------------------------------------------------------------------------------------------------

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
        if timeout is not None and isinstance(started.saga_id, DirectRun):
            _require_completed(started.worker_id, result_of(self._records, started.worker_id, timeout))
        elif timeout is not None:
            from sagas import SagaClient

            client = SagaClient(app=self._app, database_url=self._database_url)
            _require_completed(started.worker_id, client.handle(started.saga_id).result(timeout=timeout))
        return started

    # --- looking -----------------------------------------------------------------------------------------------------

    def check_heartbeats(self) -> Reconciliation:
        """See to the workers that were silent for too long, while all of them could be heard."""
        done = Reconciliation()
        dead = self._silent_for
        if self._has_backlog():
            return done
        with self._records() as records:
            heard_for = records.sweeps.listen(HEARTBEATS, self._gap)
            silent = records.sweeps.silent(dead) if heard_for >= dead else []
        for worker_id in silent:
            done += self._see_to(worker_id, Reason.SILENT, dead)
        return done

    def run_reconciliation(self) -> Reconciliation:
        """The silent ones, and on this host what the rows and the provider do not agree about.

        For whoever reads the control queue: only that makes silence mean something.
        """
        done = self.check_heartbeats()
        done += self.look_at_host(self._here[1])
        return done

    def look_at_host(self, host: str) -> Reconciliation:
        """Ghosts, which are up as their rows have it and do not exist, and zombies, the reverse. To be called there."""
        done, kind = Reconciliation(), self._here[0]
        with self._records() as records:
            up = list(records.sweeps.up(kind, host))
        exists = {handle.worker_id: handle for handle in self._provider().find_workers()}
        for worker_id in up:
            if (found := exists.get(WorkerId(worker_id))) is None or not found.alive:
                done += self._see_to(worker_id, Reason.DEAD)
        with self._records() as records:
            zombies = _unwanted(records, exists)
        for zombie in zombies:
            done += self._end_zombie(zombie, exists[zombie].reference, host)
        return done

    def cleanup_workers(self) -> Reconciliation:
        """Workers that nobody needs any more, and those that come up or go away and no saga sees to it."""
        with self._records() as records:
            found = [(one, Reason.STRANDED) for one in records.sweeps.stranded()]
            if self._settings.idle:
                found += [(one, Reason.IDLE) for one in records.sweeps.idle(self._settings.idle)]
            if self._settings.max_age:
                found += [(one, Reason.OLD) for one in records.sweeps.old(self._settings.max_age)]
        done = Reconciliation()
        for worker_id, reason in found:
            done += self._see_to(worker_id, reason)
        return done

    def has_orphaned_workers(self) -> bool:
        """Whether this host has infrastructure without a row that wants it, or a row that lost its infrastructure.

        A worker that is coming up or going away belongs to its saga and is none.
        """
        kind, host = self._here
        exists = {handle.worker_id for handle in self._provider().find_workers()}
        with self._records() as records:
            up = records.sweeps.up(kind, host)
            unwanted = _unwanted(records, exists)
        return bool(unwanted) or not exists.issuperset(up)

    # --- deciding ----------------------------------------------------------------------------------------------------

    def _see_to(self, worker_id: uuid.UUID, reason: Reason, dead: float | None = None) -> Reconciliation:
        """Start the saga that this worker needs, unless one has it. One transaction; a job is locked before a worker.

        `dead`: only if it is still silent for so long.
        """
        done = Reconciliation()
        with self._records() as records:
            job = records.recoveries.lock_job_of(worker_id)
            found = records.sweeps.lock(worker_id)
            if found is None or (dead is not None and not records.sweeps.is_silent(worker_id, dead)):
                return done
            worker, host = found
            if job is None:
                if worker.state == WorkerState.BUSY:
                    records.workers.free(WorkerId(worker_id))
                done.terminations += self._terminate(records, worker, host, reason)
            elif reason not in (Reason.SILENT, Reason.DEAD) or records.jobs.is_moved(job):
                return done  # a live job, or one that a saga moves: nobody touches it (L32)
            elif job.attempts >= job.max_attempts or job.cancel_requested_at is not None:
                records.recoveries.give_up(job)
                records.workers.retire(WorkerId(worker_id))
                done.terminations += self._terminate(records, worker, host, Reason.GIVEN_UP)
            elif not records.recoveries.pauses(job) and self._orchestrator.recovers(records, JobId(job.job_id)):
                done.recoveries.append(self._recover(records, job, worker, host))
        return done

    def _recover(self, records: Records, job: Job, worker: Worker, host: str) -> SagaId:
        """One recovery at a time has the job; the round grows when one has ended and the worker is silent again."""
        assert job.assignment_id is not None, job.job_id
        number = records.jobs.begin_round(job)
        saga_id = self._orchestrator.start_recovery_saga(
            JobId(job.job_id),
            WorkerId(worker.worker_id),
            AssignmentId(job.assignment_id),
            host,
            idempotency_key=f"recovery:{worker.worker_id}:{job.assignment_id}:{number}",
            correlation_id=job.correlation_id,
            session=records.session,
        )
        records.jobs.give_to(job, saga_id)
        return saga_id

    def _terminate(self, records: Records, worker: Worker, host: str, reason: Reason) -> list[SagaId]:
        """One at a time owns the worker; one that has FAILED is a person's, and is not started again."""
        last = records.session.get(SagaRecord, worker.owner_saga_id) if worker.owner_saga_id else None
        if last is not None and (last.saga_type, last.state) == (TERMINATION, SagaState.FAILED):
            return []
        worker_id = WorkerId(worker.worker_id)
        saga_id = self._orchestrator.start_termination_saga(
            worker_id,
            host,
            reason,
            idempotency_key=f"end:{worker_id}:{worker.owner_saga_id}",
            session=records.session,
        )
        records.workers.give_to(worker_id, saga_id)
        return [saga_id]

    def _end_zombie(self, worker_id: WorkerId, reference: str, host: str) -> Reconciliation:
        """It exists, and its row has ended, or there is none."""
        with self._records() as records:
            found = records.sweeps.lock(worker_id)
            if found is not None and found[0].state == WorkerState.TERMINATED:
                return Reconciliation(terminations=self._terminate(records, found[0], host, Reason.ZOMBIE))
            if records.workers.find(worker_id) is not None or records.sweeps.is_being_terminated(worker_id):
                return Reconciliation()
            key = f"zombie:{worker_id}:{reference}"
            saga_id = self._orchestrator.start_termination_saga(
                worker_id, host, Reason.ZOMBIE, idempotency_key=key, session=records.session
            )
            return Reconciliation(terminations=[saga_id])


def _unwanted(records: Records, exists: Collection[WorkerId]) -> list[WorkerId]:
    """Those of them whose row has ended, or that have none."""
    states = records.sweeps.states(exists)
    return [one for one in exists if states.get(one, WorkerState.TERMINATED) == WorkerState.TERMINATED]


def _require_completed(worker_id: WorkerId, result: SagaResult) -> None:
    if result.outcome is not SagaState.COMPLETED:
        raise ProvisioningFailed(f"worker {worker_id} was not made ({result.outcome}): {result.error}")
