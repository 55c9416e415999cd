"""Starts the platform's sagas: the engine's orchestrator, and two verbs of our own.

Ids are made from keys: the same key gives the same worker or assignment, so that a start that is repeated is the same.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any

from sqlalchemy.orm import Session

from models import Job, Records
from sagas import DomainEvent, Saga, SagaId, SagaOrchestrator, SagaResult, SagaType
from sagas.jobs.execution import execution_payload
from sagas.jobs.provisioning import provisioning_payload
from sagas.jobs.recovery import recovery_payload
from sagas.jobs.termination import TERMINATION, Reason, termination_payload
from sagas.jobs.types import AssignmentId, JobId, ProviderId, WorkerId, WorkerSpec

NAMESPACE = uuid.UUID("6f6465a0-5a6a-4f6b-8a1c-686f64656921")


@dataclass(frozen=True)
class Provisioning:
    """A provisioning saga that was started, and the worker that it makes."""

    saga_id: SagaId
    worker_id: WorkerId


class JobOrchestrator:
    """`SagaOrchestrator` with the platform's starts."""

    def __init__(self, sagas: SagaOrchestrator, records: Callable[[], AbstractContextManager[Records]]) -> None:
        self._sagas = sagas
        self._records = records

    def start_provisioning_saga(
        self,
        spec: WorkerSpec,
        provider_id: ProviderId,
        *,
        idempotency_key: str | None = None,
        path_key: str | None = None,
        correlation_id: str | None = None,
        actor: str | None = None,
        session: Session | None = None,
    ) -> Provisioning:
        """Make a worker. One key gives one saga and one worker. Raises ProviderNotFound.

        `path_key` is for who sends work past its saga: what has the same one takes the same way.
        """
        key = idempotency_key or str(uuid.uuid4())
        worker_id = WorkerId(uuid.uuid5(NAMESPACE, f"worker:{key}"))
        payload = provisioning_payload(worker_id, provider_id, self._host(provider_id, session), spec)
        saga_id = self._sagas.start_saga(
            SagaType.PROVISIONING,
            payload,
            idempotency_key=key,
            correlation_id=correlation_id,
            actor=actor,
            session=session,
        )
        return Provisioning(saga_id, worker_id)

    def start_execution_saga(
        self,
        job_id: JobId,
        worker_id: WorkerId,
        *,
        idempotency_key: str | None = None,
        correlation_id: str | None = None,
        actor: str | None = None,
        session: Session | None = None,
    ) -> SagaId:
        """Bring a job to a worker. One key gives one saga and one assignment."""
        key = idempotency_key or str(uuid.uuid4())
        assignment_id = AssignmentId(uuid.uuid5(NAMESPACE, f"assignment:{key}"))
        return self._sagas.start_saga(
            SagaType.EXECUTION,
            execution_payload(job_id, worker_id, assignment_id),
            idempotency_key=key,
            correlation_id=correlation_id,
            actor=actor,
            session=session,
        )

    def start_recovery_saga(
        self,
        job_id: JobId,
        worker_id: WorkerId,
        assignment_id: AssignmentId,
        host: str,
        *,
        idempotency_key: str,
        correlation_id: str | None = None,
        session: Session | None = None,
    ) -> SagaId:
        """Bring a job from a silent worker, which is on `host`, to a new one."""
        return self._sagas.start_saga(
            SagaType.RECOVERY,
            recovery_payload(job_id, worker_id, assignment_id, host),
            idempotency_key=idempotency_key,
            correlation_id=correlation_id,
            actor="sweep",
            session=session,
        )

    def start_termination_saga(
        self, worker_id: WorkerId, host: str, reason: Reason, *, idempotency_key: str, session: Session | None = None
    ) -> SagaId:
        """End a worker; one that was taken for lost and is not ends its saga CANCELLED."""
        return self._sagas.start_saga(
            TERMINATION,
            termination_payload(worker_id, host, reason),
            idempotency_key=idempotency_key,
            actor="sweep",
            session=session,
        )

    # --- what a flag may decide otherwise ----------------------------------------------------------------------------

    def awaits_worker(self, records: Records, job: Job) -> bool:
        """Whether a worker is made for this job, or the next one is not due yet."""
        return records.jobs.awaits_worker(job)

    def recovers(self, records: Records, job_id: JobId) -> bool:
        """Whether a job whose worker is lost goes to another one."""
        return True

    def _host(self, provider_id: ProviderId, session: Session | None) -> str:
        with self._in(session) as records:
            return records.providers.get(provider_id).host

    @contextmanager
    def _in(self, session: Session | None) -> Iterator[Records]:
        """The caller's transaction, or one of our own."""
        if session is not None:
            yield Records(session, self)
            return
        with self._records() as records:
            yield records

    # --- the engine's own verbs ------------------------------------------------------------------------------------

    def execute_saga(self, saga: Saga, payload: Mapping[str, Any] | None = None, **options: Any) -> SagaResult:
        """Run a saga to its end in this process."""
        return self._sagas.execute_saga(saga, payload, **options)

    def start_saga(self, saga_type: str, payload: Mapping[str, Any], **options: Any) -> SagaId:
        """Start a saga that Celery workers run."""
        return self._sagas.start_saga(saga_type, payload, **options)

    def record_step_event(self, event: DomainEvent, *, session: Any = None) -> None:
        """Append one event."""
        self._sagas.record_step_event(event, session=session)

    def is_idempotent(self, saga_type: str, idempotency_key: str) -> bool:
        """Whether a saga with that key exists."""
        return self._sagas.is_idempotent(saga_type, idempotency_key)
