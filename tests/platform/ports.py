"""Ports of tests: a provider whose agents are fast, and senders that fail or answer at once."""

from __future__ import annotations

from collections.abc import Callable

from providers.recording import RecordingProvider
from sagas.jobs.ports import WorkerHandle
from sagas.jobs.types import AssignmentId, JobCommand, JobId, WorkerId, WorkerSpec


class FastAgents(RecordingProvider):
    """Its agents call `register(worker_id, token)` before `create_worker` returns (L3); None: they never come up."""

    def __init__(self, register: Callable[[WorkerId, str], object] | None = None, **fail: int) -> None:
        super().__init__(**fail)
        self.register = register
        self.tokens: list[str] = []

    def create_worker(self, worker_id: WorkerId, spec: WorkerSpec, token: str) -> WorkerHandle:
        handle = super().create_worker(worker_id, spec, token)
        self.tokens.append(token)
        if self.register is not None:
            self.register(worker_id, token)
        return handle

    def count(self, method: str) -> int:
        """How often that method was called."""
        return sum(call.method == method for call in self.calls)


class TellingSender:
    """Sends nothing: calls `then`, which may raise."""

    def __init__(self, then: Callable[[WorkerId, AssignmentId, JobId], object]) -> None:
        self.then = then
        self.sent: list[AssignmentId] = []

    def send_run_job(
        self, worker_id: WorkerId, assignment_id: AssignmentId, job_id: JobId, command: JobCommand
    ) -> None:
        self.sent.append(assignment_id)
        self.then(worker_id, assignment_id, job_id)


def refuse(*_: object) -> None:
    """What a sender does whose broker is away."""
    raise ConnectionError("no broker")
