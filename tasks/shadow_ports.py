"""The ports of sagas in the shadow: they look at what does not change, do nothing, and write down what they would do.

What a shadow is told cannot depend on rows that the direct way has changed by then: a job that is no longer PENDING is
one that the direct way has assigned.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from models import Job, ProviderNotFound, Providers
from providers.recording import RecordingProvider
from sagas import PermanentError
from sagas.jobs.ports import CommandSender, JobBoard, WorkerProvider, WorkerRegistry
from sagas.jobs.types import AssignmentId, JobCommand, JobId, ProviderId, WorkerId, WorkerSpec
from tasks.adapters import OpenRecords
from tasks.effects import Noted

REMEMBERED = 100
"""Workers and calls that a process keeps in mind."""


class ShadowRegistry:
    """`WorkerRegistry`: every worker comes up at once."""

    def reserve(
        self, session: Any, worker_id: WorkerId, provider_id: ProviderId, spec: WorkerSpec, **_: object
    ) -> None:
        """The provider must be there; whether it has a slot left is the direct way's affair."""
        try:
            Providers(session).get(provider_id)
        except ProviderNotFound as error:
            raise PermanentError(str(error)) from None

    def issue_token(self, worker_id: WorkerId) -> str:
        """Of no use to anybody."""
        return "shadow"

    def is_registered(self, session: Any, worker_id: WorkerId) -> bool:
        """Yes."""
        return True

    def heard_since(self, worker_id: WorkerId, since: datetime) -> bool:
        """No."""
        return False

    def created(self, worker_id: WorkerId, reference: str) -> None:
        """Nothing."""

    def ready(self, session: Any, worker_id: WorkerId, provider_id: ProviderId) -> None:
        """Nothing."""

    def retire(self, session: Any, worker_id: WorkerId) -> None:
        """Nothing."""

    def withdraw(self, session: Any, worker_id: WorkerId) -> None:
        """Nothing."""

    def unregister(self, session: Any, worker_id: WorkerId) -> None:
        """Nothing."""


class ShadowBoard:
    """`JobBoard`."""

    def __init__(self, records: OpenRecords) -> None:
        self._records = records

    def check_pending(self, session: Any, job_id: JobId) -> None:
        """The job must be there."""
        if session.get(Job, job_id) is None:
            raise PermanentError(f"job {job_id} is not on record")

    def command(self, job_id: JobId) -> JobCommand:
        """The job's own."""
        with self._records() as records:
            return JobCommand.from_json(records.jobs.get(job_id).command)

    def assign(self, session: Any, job_id: JobId, worker_id: WorkerId, assignment_id: AssignmentId) -> None:
        """Nothing."""

    def announce_assigned(self, session: Any, job_id: JobId, worker_id: WorkerId, assignment_id: AssignmentId) -> None:
        """Nothing."""

    def unassign(self, session: Any, job_id: JobId, worker_id: WorkerId, assignment_id: AssignmentId) -> None:
        """Nothing."""


class ShadowSender:
    """`CommandSender`."""

    def send_run_job(
        self, worker_id: WorkerId, assignment_id: AssignmentId, job_id: JobId, command: JobCommand
    ) -> None:
        """Nothing."""

    def send_registered(self, worker_id: WorkerId) -> None:
        """Nothing."""

    def send_cancel_job(self, worker_id: WorkerId, assignment_id: AssignmentId, grace: float = 5) -> None:
        """Nothing."""

    def send_ack(self, worker_id: WorkerId, assignment_id: AssignmentId) -> None:
        """Nothing."""

    def send_shutdown(self, worker_id: WorkerId) -> None:
        """Nothing."""


def shadow_ports(records: OpenRecords, instead: Mapping[type, Any] | None = None) -> dict[type, Any]:
    """What a shadow saga gets; `instead` replaces some. Every effect is a line of its comparison's `saga_effects`."""

    def note(run_id: uuid.UUID, effect: dict[str, Any]) -> None:
        with records() as opened:
            opened.shadows.would_do(run_id, [effect])

    ports = {
        WorkerRegistry: ShadowRegistry(),
        JobBoard: ShadowBoard(records),
        CommandSender: ShadowSender(),
        WorkerProvider: RecordingProvider(keep=REMEMBERED),
        **(instead or {}),
    }
    return {protocol: Noted(port, note) for protocol, port in ports.items()}
