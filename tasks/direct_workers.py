"""Workers made without a saga: the part of `tasks.direct` that waits, and is to be deleted with it."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from sqlalchemy import select

from models import Job, Records, Worker
from models.events import saga_now
from models.jobs import provision_pause
from sagas import NotReady, PermanentError, SagaId, SagaResult, SagaState, SagaTimeout, SagaType
from sagas.jobs.ports import ProviderError, WorkerProvider, WorkerRegistry
from sagas.jobs.provisioning import REGISTER_TIMEOUT
from sagas.jobs.types import ProviderId, WorkerId, WorkerSpec, WorkerState
from tasks.adapters import OpenRecords
from tasks.direct import PROVISION
from tasks.effects import noted

if TYPE_CHECKING:
    from tasks.platform import Platform

logger = logging.getLogger(__name__)

LOOK_EVERY = 0.5  # seconds between two looks whether an agent has come up
COMING_UP = (WorkerState.CREATING, WorkerState.CONNECTING)


def awaits(records: Records, job: Job) -> bool:
    """Whether a worker is made for this job without a saga, or the next one is not due yet; else a round begins."""
    if job.provisioning_saga_id is not None or job.awaited_worker_id is None:
        return False
    worker = records.workers.find(job.awaited_worker_id)
    if worker is not None and worker.state in COMING_UP:
        return True
    ended = worker.terminated_at if worker is not None else None
    if ended is not None and ended + provision_pause(job) > _now(records):
        return True
    job.round += 1
    job.awaited_worker_id = None
    records.session.flush()
    return False


def result_of(records: OpenRecords, worker_id: WorkerId, timeout: float) -> SagaResult:
    """How it ended, as a saga's result; SagaTimeout after so many seconds."""
    until = time.monotonic() + timeout
    while True:
        with records() as opened:
            worker = opened.workers.find(worker_id)
        if worker is None or worker.state not in COMING_UP:
            up = worker is not None and worker.state in (WorkerState.READY, WorkerState.BUSY)
            outcome = SagaState.COMPLETED if up else SagaState.COMPENSATED
            return SagaResult(SagaId(worker_id), outcome, 0, 0, {}, None if up else "it has not come up")
        if time.monotonic() > until:
            raise SagaTimeout(f"worker {worker_id} has not come up within {timeout:g} s")
        time.sleep(0.05)


class DirectMaker:
    """Makes a worker on its provider's host, by the same ports as the saga. An agent has `patience` to come up."""

    def __init__(self, records: OpenRecords, ports: Mapping[type, Any], patience: timedelta) -> None:
        self._records = records
        self._ports = ports
        self._patience = patience

    def make(self, worker_id: WorkerId) -> bool:
        """False while its agent has not come up: to be called again."""
        done: list[dict[str, Any]] = []
        provider, registry = self._noted(done)
        with self._records() as records:
            worker = records.workers.find(worker_id)
            too_late = worker is not None and _now(records) > worker.created_at + self._patience
        if worker is None or worker.state not in COMING_UP:
            return True
        try:
            if too_late:
                raise PermanentError(f"the agent of worker {worker_id} has not come up in time")
            if worker.state == WorkerState.CREATING or worker.reference is None:
                made = provider.create_worker(
                    worker_id, WorkerSpec.from_json(worker.spec), registry.issue_token(worker_id)
                )
                registry.created(worker_id, made.reference)
            if self._is_up(registry, worker, done):
                return True
            if not provider.is_alive(worker_id):
                raise PermanentError(f"the agent of worker {worker_id} has ended before it registered")
        except NotReady as error:
            logger.info("worker %s: asked again: %s", worker_id, error)
        except (ProviderError, PermanentError) as error:
            self._give_up(worker_id, done, error)
            return True
        with self._records() as records:
            records.shadows.did(worker_id, done)
        return False

    def _is_up(self, registry: Any, worker: Worker, done: list[dict[str, Any]]) -> bool:
        worker_id = WorkerId(worker.worker_id)
        with self._records() as records:
            if not registry.is_registered(records.session, worker_id):
                return False
            registry.ready(records.session, worker_id, ProviderId(worker.provider_id))
            records.shadows.did(worker_id, done, ended=True)
        return True

    def _give_up(self, worker_id: WorkerId, done: list[dict[str, Any]], error: Exception) -> None:
        """One that has come up after all, by another delivery of this message, is left alone."""
        logger.warning("worker %s is not made: %s", worker_id, error)
        provider, registry = self._noted(done)
        with self._records() as records:
            worker = records.session.get(Worker, worker_id, with_for_update=True, populate_existing=True)
            if worker is None or worker.state not in COMING_UP:
                return
            registry.retire(records.session, worker_id)
            records.shadows.did(worker_id, done, str(error), ended=True)
        try:
            provider.destroy_worker(worker_id)
        except ProviderError as trouble:
            logger.warning("worker %s is left to the sweep: %s", worker_id, trouble)
            return
        with self._records() as records:
            registry.unregister(records.session, worker_id)

    def _noted(self, done: list[dict[str, Any]]) -> tuple[Any, Any]:
        return noted(self._ports[WorkerProvider], done), noted(self._ports[WorkerRegistry], done)


def _now(records: Records) -> Any:
    return records.session.scalar(select(saga_now()))


def register(platform: Platform) -> None:
    """Its one task, which waits without holding a process."""
    from tasks.messages import OPTIONS

    # As long as the saga's own step waits for an agent.
    step = platform.engine.registry.latest(SagaType.PROVISIONING).get("RegisterWorker")
    patience = timedelta(seconds=step.timeout or REGISTER_TIMEOUT)

    @platform.app.task(name=PROVISION, bind=True, **OPTIONS)
    def provision_directly(self: Any, worker_id: str) -> None:
        maker = DirectMaker(platform.records, platform.engine.ports, patience)
        if not maker.make(WorkerId(worker_id)):
            raise self.retry(countdown=LOOK_EVERY)
