"""Which way work takes, by the flags: through its saga, or past it, then perhaps with the saga in the shadow.

A flag that is changed while work goes on changes nothing for that work: it ends on the way on which it began.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable
from typing import Any

from sqlalchemy.orm import Session

from models import Job, Records
from sagas import SagaFeatureFlags, SagaId, SagaOrchestrator, SagaType
from sagas.jobs.execution import execution_payload
from sagas.jobs.provisioning import provisioning_payload
from sagas.jobs.types import AssignmentId, JobId, ProviderId, WorkerId, WorkerSpec
from tasks import shadow
from tasks.adapters import OpenRecords
from tasks.direct import DirectPath, DirectProvisioning, DirectRun
from tasks.direct_workers import awaits
from tasks.orchestrator import NAMESPACE, JobOrchestrator, Provisioning

KNOWN_FOR = 2.0
"""Seconds for which a process goes by the flags that it has read: so late it sees a change."""


class KnownFlags:
    """The flags as this process knows them; `clock` gives seconds that only grow."""

    def __init__(self, known_for: float = KNOWN_FOR, clock: Callable[[], float] = time.monotonic) -> None:
        self._known_for = known_for
        self._clock = clock
        self._known: tuple[float, SagaFeatureFlags] | None = None

    def current(self, records: Records) -> SagaFeatureFlags:
        """Read again when they are too old."""
        now = self._clock()
        if self._known is None or now - self._known[0] >= self._known_for:
            self._known = (now, records.flags.current())
        return self._known[1]


class FlaggedOrchestrator(JobOrchestrator):
    """`JobOrchestrator`, but what goes past its saga gets a `DirectRun` for a saga's id."""

    def __init__(
        self,
        sagas: SagaOrchestrator,
        records: OpenRecords,
        direct: DirectPath,
        flags: KnownFlags | None = None,
    ) -> None:
        super().__init__(sagas, records)
        self._direct = direct
        self._flags = flags or KnownFlags()

    def start_execution_saga(
        self, job_id: JobId, worker_id: WorkerId, *, session: Session | None = None, **options: Any
    ) -> SagaId:
        """Bring a job to a worker; the key is the job's own, so that all of its rounds take one way."""
        key = str(job_id)
        with self._in(session) as records:
            flags = self._flags.current(records)
            if flags.uses_saga(SagaType.EXECUTION, key):
                run = None
            else:
                run = self._dispatch(records, flags, key, job_id, worker_id)
        if run is None:
            return super().start_execution_saga(job_id, worker_id, session=session, **options)
        return self._begun(run, session)

    def start_provisioning_saga(
        self,
        spec: WorkerSpec,
        provider_id: ProviderId,
        *,
        idempotency_key: str | None = None,
        path_key: str | None = None,
        session: Session | None = None,
        **options: Any,
    ) -> Provisioning:
        """Make a worker. `path_key` decides the way: a job's own, so that all of its rounds take one way."""
        key = idempotency_key or str(uuid.uuid4())
        worker_id = WorkerId(uuid.uuid5(NAMESPACE, f"direct worker:{key}"))
        with self._in(session) as records:
            flags = self._flags.current(records)
            run: DirectRun | None = None
            if records.workers.find(worker_id) is not None:
                run = DirectProvisioning.of(worker_id)
            elif not flags.uses_saga(SagaType.PROVISIONING, path_key or key) and not self._has_saga(idempotency_key):
                run = self._provision(records, flags, path_key or key, worker_id, provider_id, spec)
        if run is None:
            return super().start_provisioning_saga(spec, provider_id, idempotency_key=key, session=session, **options)
        return Provisioning(self._begun(run, session), worker_id)

    def _has_saga(self, key: str | None) -> bool:
        return key is not None and self.is_idempotent(SagaType.PROVISIONING, key)

    def awaits_worker(self, records: Records, job: Job) -> bool:
        """Whether one is made for it past the saga, or was in vain a moment ago."""
        return awaits(records, job) or super().awaits_worker(records, job)

    def recovers(self, records: Records, job_id: JobId) -> bool:
        """As the flag says; past its saga nothing is recovered, the job waits for its worker to come back."""
        return self._flags.current(records).uses_saga(SagaType.RECOVERY, str(job_id))

    # --- past the saga -----------------------------------------------------------------------------------------------

    def _dispatch(
        self, records: Records, flags: SagaFeatureFlags, key: str, job_id: JobId, worker_id: WorkerId
    ) -> DirectRun:
        assignment_id = AssignmentId.new()
        if flags.shadows(SagaType.EXECUTION, key):
            payload = execution_payload(job_id, worker_id, assignment_id)
            shadow.begin(records, self._sagas, flags, SagaType.EXECUTION, key, assignment_id, payload)
        return self._direct.assign(records, job_id, worker_id, assignment_id)

    def _provision(
        self,
        records: Records,
        flags: SagaFeatureFlags,
        key: str,
        worker_id: WorkerId,
        provider_id: ProviderId,
        spec: WorkerSpec,
    ) -> DirectRun:
        host = records.providers.get(provider_id).host
        if flags.shadows(SagaType.PROVISIONING, key):
            payload = provisioning_payload(worker_id, provider_id, host, spec)
            shadow.begin(records, self._sagas, flags, SagaType.PROVISIONING, key, worker_id, payload)
        return self._direct.reserve(records, worker_id, provider_id, spec)

    def _begun(self, run: DirectRun, session: Session | None) -> DirectRun:
        """In a transaction of our own it goes on at once; in the caller's, once that has committed."""
        if session is None:
            self._direct.go_on(run)
        return run
