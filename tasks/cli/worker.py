"""`hodei worker`: the workers that run jobs."""

from __future__ import annotations

from datetime import UTC, datetime

import click

from sagas.cli.report import show_table
from sagas.jobs.types import WorkerId
from tasks.cli.access import as_dict, records, show_json

FIELDS = (
    *("worker_id", "provider_id", "state", "reference"),
    *("created_at", "registered_at", "ready_at", "last_seen_at", "terminated_at"),
)


@click.group()
def worker() -> None:
    """List the workers that run jobs."""


@worker.command("list")
@click.option("--all", "ended", is_flag=True, help="Those too that are TERMINATED.")
@click.option("--json", "as_json", is_flag=True, help="Print it as JSON.")
def list_workers(ended: bool, as_json: bool) -> None:
    """List the workers, the latest first."""
    with records() as opened:
        workers = opened.workers.list(ended)
        hosts = {provider.provider_id: provider.host for provider in opened.providers.list()}
        jobs = {one.worker_id: opened.runs.current(WorkerId(one.worker_id)) for one in workers}
    told = [
        {
            **as_dict(one, *FIELDS),
            "host": hosts[one.provider_id],
            "job_id": str(job.job_id) if (job := jobs[one.worker_id]) else None,
        }
        for one in workers
    ]
    if as_json:
        show_json(told)
        return
    rows = [
        (
            row["worker_id"],
            row["state"],
            row["host"],
            row["job_id"] or "-",
            _ago(one.last_seen_at),
            row["reference"] or "-",
        )
        for row, one in zip(told, workers, strict=True)
    ]
    show_table(("WORKER", "STATE", "HOST", "JOB", "SEEN", "PROCESS"), rows)


def _ago(moment: datetime | None) -> str:
    return f"{max(0.0, (datetime.now(UTC) - moment).total_seconds()):.0f} s ago" if moment else "never"
