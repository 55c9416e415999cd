"""What the sagas replace: jobs dispatched and workers made without one. To be deleted when no flag needs it any more.

No record says how far it came, and its undo is one attempt. What a crash leaves behind is put right by others: a worker
is told its assignment again when its heartbeat does not list it, one that does not come up is ended by the sweep.
"""

from __future__ import annotations

import logging
import uuid
from collections.abc import Mapping
from typing import Any

from celery import Celery
from kombu.exceptions import KombuError
from sqlalchemy import select

from models import Job, Records
from sagas import HodeiError, PermanentError, SagaId
from sagas.jobs.ports import CommandSender, JobBoard, WorkerRegistry
from sagas.jobs.types import AssignmentId, JobId, ProviderId, WorkerId, WorkerSpec, WorkerState
from tasks.adapters import OpenRecords
from tasks.effects import noted
from tasks.sender import RETRY

logger = logging.getLogger(__name__)

PROVISION = "workers.provision_directly"


class DirectRun(SagaId):
    """Stands where a saga's id would: of the assignment, or of the worker, that is made without one."""

    @classmethod
    def of(cls, made: uuid.UUID) -> DirectRun:
        """Named as what it makes."""
        return cls(str(made))


class DirectDispatch(DirectRun):
    """Of a job to a worker; it is the assignment's id."""


class DirectProvisioning(DirectRun):
    """Of a worker; it is the worker's id."""


class DirectPath:
    """Works on the same ports as the sagas' steps."""

    def __init__(self, app: Celery, records: OpenRecords, ports: Mapping[type, Any]) -> None:
        self._app = app
        self._records = records
        self._ports = ports

    def go_on(self, run: DirectRun) -> None:
        """What is to be done once the transaction that began it has committed."""
        if isinstance(run, DirectDispatch):
            self._send(AssignmentId(run))
        else:
            self._have_made(WorkerId(run))

    def assign(self, records: Records, job_id: JobId, worker_id: WorkerId, assignment_id: AssignmentId) -> DirectRun:
        """Both rows, in the caller's transaction; the command follows by `go_on`."""
        self._begin(records, assignment_id, JobBoard, "assign", job_id, worker_id, assignment_id)
        return DirectDispatch.of(assignment_id)

    def reserve(self, records: Records, worker_id: WorkerId, provider_id: ProviderId, spec: WorkerSpec) -> DirectRun:
        """Its row and its slot, in the caller's transaction; its provider is asked by `go_on`."""
        self._begin(records, worker_id, WorkerRegistry, "reserve", worker_id, provider_id, spec)
        return DirectProvisioning.of(worker_id)

    def _begin(self, records: Records, run_id: uuid.UUID, protocol: type, name: str, *args: Any) -> None:
        """The first change; one that is refused is the end of the run, and of nothing else in the transaction."""
        done: list[dict[str, Any]] = []
        try:
            with records.session.begin_nested():
                getattr(noted(self._ports[protocol], done), name)(records.session, *args)
        except PermanentError as error:
            logger.warning("not begun without a saga: %s", error)
            records.shadows.did(run_id, [], str(error), ended=True)
        else:
            records.shadows.did(run_id, done)

    def _send(self, assignment_id: AssignmentId) -> None:
        """The command; where it is not taken the job waits again (L16)."""
        done: list[dict[str, Any]] = []
        board, sender = noted(self._ports[JobBoard], done), noted(self._ports[CommandSender], done)
        with self._records() as records:
            job = records.session.scalars(select(Job).where(Job.assignment_id == assignment_id)).one_or_none()
        if job is None or job.worker_id is None:
            return
        ids = JobId(job.job_id), WorkerId(job.worker_id), assignment_id
        try:
            sender.send_run_job(ids[1], assignment_id, ids[0], board.command(ids[0]))
        except (OSError, HodeiError) as error:
            logger.warning("job %s waits again: %s", job.job_id, error)
            with self._records() as records:
                board.unassign(records.session, *ids)
                records.shadows.did(assignment_id, done, str(error), ended=True)
            return
        with self._records() as records:
            board.announce_assigned(records.session, *ids)
            records.shadows.did(assignment_id, done, ended=True)

    def _have_made(self, worker_id: WorkerId) -> None:
        """Ask the provider's host; if nobody takes that, there is nothing to undo but the row."""
        with self._records() as records:
            worker = records.workers.find(worker_id)
            if worker is None or worker.state != WorkerState.CREATING:
                return
            queue = f"provider.{records.providers.get(worker.provider_id).host}"
        told = {"worker_id": str(worker_id)}
        try:
            self._app.send_task(PROVISION, kwargs=told, queue=queue, ignore_result=True, retry_policy=RETRY)
        except (OSError, KombuError) as error:
            logger.warning("worker %s is not made: %s", worker_id, error)
            with self._records() as records:
                self._ports[WorkerRegistry].unregister(records.session, worker_id)
                records.shadows.did(worker_id, [], str(error), ended=True)
