"""The table at the end of `hodei demo`: jobs, sagas, steps, compensations, times."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.table import Table

from models import Job
from tasks.cli.access import records

if TYPE_CHECKING:
    from tasks.platform import Platform


def summary(system: Platform, jobs: Sequence[Job]) -> Table:
    """One line for the jobs, one for each type of saga and outcome."""
    table = Table(title="what was done", title_justify="left")
    for heading in ("what", "outcome"):
        table.add_column(heading)
    for heading in ("count", "steps", "compensations", "mean time"):
        table.add_column(heading, justify="right")
    for state in sorted({job.state for job in jobs}):
        these = [job for job in jobs if job.state == state]
        times = [(job.finished_at - job.created_at).total_seconds() for job in these if job.finished_at]
        table.add_row("job", state, str(len(these)), "", "", _mean(times))
    with records(system) as opened:
        for line in opened.sagas.totals():
            counts = (str(line.sagas), str(line.steps), str(line.compensations))
            table.add_row(f"saga {line.saga_type}", line.state, *counts, _mean([line.seconds] if line.seconds else []))
    return table


def _mean(times: Sequence[float]) -> str:
    return f"{sum(times) / len(times):.2f} s" if times else "-"
