"""The platform with a provider that stops between having created a worker and saying so, until the test lets it go."""

from pathlib import Path

from providers.process import ProcessProvider
from sagas.jobs.ports import WorkerHandle, WorkerProvider
from sagas.jobs.types import WorkerId, WorkerSpec
from sagas.settings import load
from tasks.celery import make_app
from tests.harness.effects import record, wait_for_lock


class Blocked(ProcessProvider):
    """Meets the test on the lock `created`."""

    def create_worker(self, worker_id: WorkerId, spec: WorkerSpec, token: str) -> WorkerHandle:
        handle = super().create_worker(worker_id, spec, token)
        record("effect", key=str(worker_id), step="create_worker")
        wait_for_lock("created")
        return handle


def make() -> Blocked:
    """From the environment of the test."""
    settings = load()
    return Blocked(Path(settings.home), settings.require_broker(), beat=0.5)


app = make_app(ports={WorkerProvider: make})
