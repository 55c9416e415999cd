"""Questions to the world: jobs that have ended, agents that live."""

from __future__ import annotations

from typing import Any

import psutil

from sagas.jobs.types import JobId
from tasks.platform import Platform
from tests.harness.database import Query
from tests.harness.wait import wait_for

LONG = 40.0
"""Seconds for a job to its end, a worker's start included, on a busy machine."""


def finished(query: Query, job_id: JobId, timeout: float = LONG) -> dict[str, Any]:
    """The row of the job once it has ended."""

    def ended() -> list[dict[str, Any]]:
        return query("SELECT * FROM jobs WHERE job_id = %s AND finished_at IS NOT NULL", str(job_id))

    def story() -> str:
        events = query("SELECT stream, event_type, step_name, payload FROM saga_events ORDER BY event_id")
        return "\n".join(str(event) for event in events)

    (row,) = wait_for(ended, timeout, story)
    return row


def send_late_result(platform: Platform, assigned: dict[str, Any]) -> None:
    """Report a failure in the name of the worker that had this row of a job, as its agent would."""
    told = {name: str(assigned[name]) for name in ("worker_id", "assignment_id", "job_id")}
    late = {**told, "outcome": "failed", "exit_code": 1, "error": "late", "log_lines": 0}
    platform.app.send_task("jobs.result", kwargs=late, queue="control")


def agents(query: Query) -> list[psutil.Process]:
    """All living processes of this test's workers, their jobs included, from the process table."""
    workers = {str(row["worker_id"]) for row in query("SELECT worker_id FROM workers")}
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get("HODEI_WORKER_ID") in workers and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except (psutil.Error, OSError):
            continue
    return found
