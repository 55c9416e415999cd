"""What workers tell us, and what anybody may ask for. Messages are hints (P10): early, late, twice, out of order, lost.

Each handler writes in one transaction and answers after its commit. An answer that gets lost costs a repetition: the
agent says everything again until it has its answer; only its log it says once, so that handler never gives up.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from kombu.exceptions import KombuError
from sqlalchemy.exc import InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from sagas import StorageUnavailable
from sagas.jobs.ports import ProviderError
from sagas.jobs.requirements import Requirements
from sagas.jobs.types import JobCommand, JobId
from tasks import due, provider_host, reports, shadow

if TYPE_CHECKING:
    from tasks.platform import Platform

logger = logging.getLogger(__name__)

TROUBLE = (OperationalError, InterfaceError, PoolTimeout, StorageUnavailable, OSError, KombuError)
"""Infrastructure trouble: tried again, for as long as it lasts."""


OPTIONS: dict[str, Any] = {
    "shared": False,
    "acks_late": True,
    "ignore_result": True,
    "autoretry_for": TROUBLE,
    "max_retries": None,
    "retry_backoff": 1,
    "retry_backoff_max": 15,
}


def register(platform: Platform) -> None:
    """Make them tasks of the app: on the queue `control`, but for the log, which has its own."""

    def task(name: str, queue: str = "control", bind: bool = False) -> Any:
        platform.app.conf.task_routes = {**(platform.app.conf.task_routes or {}), name: {"queue": queue}}
        return platform.app.task(name=name, bind=bind, **OPTIONS)

    _register_reports(platform, task)
    _register_requests(platform, task)


def _register_reports(platform: Platform, task: Callable[..., Any]) -> None:
    """What agents tell us."""

    @task("workers.register")
    def register_worker(worker_id: str, instance_id: str, token: str, **about: Any) -> None:
        reports.registered(platform, worker_id, instance_id, token)

    @task("workers.heartbeat")
    def heartbeat(
        worker_id: str, instance_id: str, assignments: list[str] | None = None, results: list[Any] | None = None
    ) -> None:
        reports.heartbeat(platform, worker_id, instance_id, assignments or [], results or [])

    @task("jobs.accepted")
    def accepted(assignment_id: str, job_id: str, worker_id: str) -> None:
        reports.accepted(platform, worker_id, assignment_id)

    @task("jobs.result")
    def result(**told: Any) -> None:
        reports.result(platform, told)

    @task("jobs.log", queue="logs")
    def log(assignment_id: str, job_id: str, records: list[list[Any]]) -> None:
        reports.log(platform, job_id, assignment_id, records)


def _register_requests(platform: Platform, task: Callable[..., Any]) -> None:
    """What anybody may ask for, and what beat asks for."""

    @task("jobs.submit", bind=True)
    def submit(self: Any, command: dict[str, Any], **options: Any) -> None:
        # The message's own id, so that a message that comes twice is one job.
        submit_job(platform, JobCommand.from_json(command), job_id=JobId(self.request.id), **options)

    @task("workers.check_heartbeats")
    def check_heartbeats() -> None:
        with next_tick_does_it("workers.check_heartbeats"):
            platform.lifecycle.check_heartbeats()
            platform.lifecycle.cleanup_workers()
            provider_host.ask_hosts(platform)

    @task("workers.reconcile")
    def reconcile_workers(host: str) -> None:
        with next_tick_does_it("workers.reconcile"):
            platform.lifecycle.look_at_host(host)

    @task("jobs.reconcile")
    def reconcile_jobs() -> None:
        with next_tick_does_it("jobs.reconcile"):
            due.reconcile(platform)
            shadow.compare(platform)

    @task("jobs.dispatch")
    def dispatch() -> None:
        with next_tick_does_it("jobs.dispatch"):
            platform.dispatcher.dispatch_once()


@contextmanager
def next_tick_does_it(name: str) -> Iterator[None]:
    """Beat's messages are not retried: while PostgreSQL is away their retries would pile up, and each does the same."""
    try:
        yield
    except (*TROUBLE, ProviderError) as error:
        logger.warning("%s: left to the next tick: %s", name, str(error).splitlines()[0])


def submit_job(
    platform: Platform,
    command: JobCommand,
    *,
    requirements: Requirements | dict[str, Any] | None = None,
    **options: Any,
) -> JobId:
    """Write the job; the dispatcher is told at once, or looks a second later. The options are those of `Jobs.submit`.

    Requirements may be JSON, as a message has them; ValueError, in one line, for what are none.
    """
    asked = Requirements.from_json(requirements) if isinstance(requirements, dict) else requirements
    with platform.records() as records:
        job_id = records.jobs.submit(command, requirements=asked, **options)
    platform.sender.hint_dispatch()
    return job_id
