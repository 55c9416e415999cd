"""A provider that only remembers what it was asked: for shadow mode (no effect outside), and for tests."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sagas.jobs.ports import ProviderError, WorkerHandle
from sagas.jobs.types import WorkerId, WorkerSpec


@dataclass(frozen=True)
class Call:
    """One call of the provider: `create_worker` or `destroy_worker`."""

    method: str
    worker_id: WorkerId
    spec: WorkerSpec | None = None


class RecordingProvider:
    """Behaves as a provider does, without workers. `fail_create`, `fail_destroy` say how many calls will fail.

    It remembers the last `keep` calls and workers; None: all of them.
    """

    def __init__(self, fail_create: int = 0, fail_destroy: int = 0, keep: int | None = None) -> None:
        self.calls: list[Call] = []
        self.fail_create = fail_create
        self.fail_destroy = fail_destroy
        self._keep = keep
        self._workers: dict[WorkerId, WorkerHandle] = {}

    def create_worker(self, worker_id: WorkerId, spec: WorkerSpec, token: str) -> WorkerHandle:
        """Remember the call (without its token); twice gives the same worker."""
        self._remember(Call("create_worker", worker_id, spec))
        if self.fail_create > 0:
            self.fail_create -= 1
            raise ProviderError(f"worker {worker_id}: told to fail")
        return self._workers.setdefault(worker_id, WorkerHandle(worker_id, "recorded", alive=True))

    def destroy_worker(self, worker_id: WorkerId) -> None:
        """Remember the call; one that is not there is fine."""
        self._remember(Call("destroy_worker", worker_id))
        if self.fail_destroy > 0:
            self.fail_destroy -= 1
            raise ProviderError(f"worker {worker_id}: told to fail")
        self._workers.pop(worker_id, None)

    def find_workers(self) -> Sequence[WorkerHandle]:
        """What was created and not destroyed."""
        return list(self._workers.values())

    def is_alive(self, worker_id: WorkerId) -> bool:
        """True from create to destroy."""
        return worker_id in self._workers

    def check(self) -> None:
        """It always can."""

    def _remember(self, call: Call) -> None:
        self.calls.append(call)
        if self._keep is not None:
            del self.calls[: -self._keep]
            for forgotten in list(self._workers)[: -self._keep]:
                del self._workers[forgotten]
