"""The agent's Celery app: the messages that it takes. Broker and JSON only; no result backend."""

from __future__ import annotations

import logging
from typing import Any

from celery import Celery
from celery.worker import state
from celery.worker.consumer import Consumer
from celery.worker.state import maybe_shutdown

from agent.core import Agent
from agent.settings import AgentSettings
from sagas.jobs.types import AssignmentId, JobId

logger = logging.getLogger(__name__)


class PatientConsumer(Consumer):
    """Waits for the broker for ever, at most two seconds between two tries (Celery: up to thirty)."""

    def ensure_connected(self, conn: Any) -> Any:
        """The connection, once there is one; a wish to stop ends the waiting."""

        def note(error: Exception, interval: float) -> None:
            logger.warning("no broker (next try in %.1f s): %s", interval, error)

        conn.ensure_connection(note, None, 0.5, 0.5, 2, callback=maybe_shutdown)
        return conn


def make_app(settings: AgentSettings) -> Celery:
    """An app without tasks: enough to send."""
    queue = f"worker.{settings.worker_id}"
    app = Celery("agent", broker=settings.broker_url, set_as_current=True)
    app.conf.update(
        accept_content=["json"],
        task_serializer="json",
        task_ignore_result=True,
        task_default_queue=queue,
        worker_prefetch_multiplier=1,
        worker_consumer=PatientConsumer,
        worker_hijack_root_logger=False,
        worker_redirect_stdouts=False,
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,
        broker_transport_options={
            # Marks of our own for what was taken and not acknowledged: our time-out must not move others' messages.
            "unacked_key": f"unacked.{queue}",
            "unacked_index_key": f"unacked_index.{queue}",
            "unacked_mutex_key": f"unacked_mutex.{queue}",
            "visibility_timeout": 30,
            "socket_connect_timeout": 5,
            "socket_keepalive": True,
            # For the sender: give up soon, it has delays of its own.
            "max_retries": 1,
            "interval_start": 0,
            "interval_step": 0.2,
            "interval_max": 0.2,
        },
    )
    return app


def add_tasks(app: Celery, agent: Agent) -> None:
    """What the platform may ask of the agent. Every task returns at once: jobs run beside the consumer."""

    def registered(worker_id: str) -> None:
        agent.registered()

    def run_job(assignment_id: str, job_id: str, command: dict[str, Any]) -> None:
        agent.run_job(AssignmentId(assignment_id), JobId(job_id), command)

    def cancel_job(assignment_id: str, grace: float = 5) -> None:
        agent.cancel_job(AssignmentId(assignment_id), grace)

    def ack_result(assignment_id: str) -> None:
        agent.ack_result(AssignmentId(assignment_id))

    def shutdown() -> None:
        state.should_stop = 0

    for verb in (registered, run_job, cancel_job, ack_result, shutdown):
        app.task(name=f"agent.{verb.__name__}")(verb)
