"""Messages to workers, each on the worker's own queue, where the broker keeps it until the worker listens (L4)."""

from __future__ import annotations

from typing import Any

from celery import Celery
from kombu.exceptions import KombuError
from kombu.exceptions import OperationalError as BrokerError

from sagas.jobs.types import AssignmentId, JobCommand, JobId, WorkerId

RETRY = {"max_retries": 2, "interval_start": 0.1, "interval_step": 0.2, "interval_max": 0.5}


class CelerySender:
    """`CommandSender` on Celery: tasks of the agent, by name."""

    def __init__(self, app: Celery) -> None:
        self._app = app

    def send_registered(self, worker_id: WorkerId) -> None:
        """Tell the agent that it is registered."""
        self._send(worker_id, "registered", worker_id=str(worker_id))

    def send_run_job(
        self, worker_id: WorkerId, assignment_id: AssignmentId, job_id: JobId, command: JobCommand
    ) -> None:
        """Ask for the job to be run."""
        ids = {"assignment_id": str(assignment_id), "job_id": str(job_id)}
        self._send(worker_id, "run_job", **ids, command=command.to_json())

    def send_cancel_job(self, worker_id: WorkerId, assignment_id: AssignmentId, grace: float = 5) -> None:
        """Ask for the job to be stopped."""
        self._send(worker_id, "cancel_job", assignment_id=str(assignment_id), grace=grace)

    def send_ack(self, worker_id: WorkerId, assignment_id: AssignmentId) -> None:
        """The result is on record."""
        self._send(worker_id, "ack_result", assignment_id=str(assignment_id))

    def send_shutdown(self, worker_id: WorkerId) -> None:
        """Ask the agent to exit."""
        self._send(worker_id, "shutdown")

    def hint_dispatch(self) -> None:
        """Something may be dispatched now. A lost hint costs a second: nobody waits for the broker here."""
        try:
            self._app.send_task("jobs.dispatch", queue="control", expires=5, ignore_result=True, retry=False)
        except (OSError, KombuError):
            return

    def _send(self, worker_id: WorkerId, verb: str, /, **kwargs: Any) -> None:
        """Raises ConnectionError (an OSError) if the broker did not take the message."""
        try:
            self._app.send_task(
                f"agent.{verb}",
                kwargs=kwargs,
                queue=f"worker.{worker_id}",
                ignore_result=True,
                retry=True,
                retry_policy=RETRY,
            )
        except BrokerError as error:
            raise ConnectionError(f"agent.{verb} was not sent to worker {worker_id}: {error}") from error
