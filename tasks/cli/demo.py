"""`hodei demo`: a system of its own, some jobs, two sagas, a killed worker, a summary; nothing is left running."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click
from click.exceptions import Exit
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from models import Job
from sagas import SagaClient, SagaHandle, SagaId, SagaResult, SagaState
from sagas.cli.down import stop_system
from sagas.cli.interrupts import Interrupts
from sagas.cli.programs import PLATFORM_APP
from sagas.cli.system import Home
from sagas.cli.up import Options, start_system
from sagas.jobs.types import JobCommand, JobId
from tasks.cli.access import platform, records
from tasks.cli.demo_recovery import SETTINGS, show_recovery
from tasks.cli.summary import summary

if TYPE_CHECKING:
    from tasks.platform import Platform

MODULE = "tasks.demo_saga"
PATIENCE = 90.0  # seconds for all jobs and sagas
JOBS = (
    (JobCommand(("echo", "hello from a worker")), 0),
    (JobCommand((sys.executable, "-c", "print(sum(range(1_000_000)))")), 0),
    (JobCommand(("sort",), stdin="pear\napple\nfig\n"), 0),
    (JobCommand(("sh", "-c", "for i in 1 2 3; do echo line $i; sleep 0.3; done")), 0),
    (JobCommand(("sh", "-c", 'echo "$GREETING" >&2'), {"GREETING": "to stderr"}), 0),
    (JobCommand(("sh", "-c", "echo this one fails; exit 3")), 3),
)
"""What is run, and the exit code that it must have."""
ORDERS = (
    ({"quantity": 1}, SagaState.COMPLETED),
    ({"quantity": 2, "carrier": "on strike"}, SagaState.COMPENSATED),
)


@click.command()
def demo() -> None:
    """Run jobs and sagas on a system of its own and print a summary. Takes well under a minute; leaves nothing."""
    console = Console(highlight=False)
    started = time.monotonic()
    try:
        with Interrupts() as interrupts, own_system(console, interrupts):
            right = show(console, platform(), interrupts.check)
    except KeyboardInterrupt:
        console.print("interrupted; everything is stopped")
        raise Exit(130) from None
    console.print(f"all of it stopped again; {time.monotonic() - started:.0f} s in all")
    raise Exit(0 if right else 1)


@contextmanager
def own_system(console: Console, interrupts: Interrupts) -> Iterator[None]:
    """`hodei up` in a directory of its own, on free ports; whatever happens, all of it is stopped and removed."""
    directory = Path(tempfile.mkdtemp(prefix="hodei-demo-"))
    for name in ("HODEI_DATABASE_URL", "HODEI_BROKER_URL", "HODEI_DB_SCHEMA"):
        os.environ.pop(name, None)
    os.environ["HODEI_HOME"] = str(directory)
    os.environ.update(SETTINGS)
    home = Home.from_environment()
    try:
        home.make()
        with home.locked():
            start_system(home, Options(PLATFORM_APP, MODULE, 2, False, None), console.print)
        yield
    finally:
        interrupts.ignore()
        console.print("stopping ...")
        stop_system(home)
        shutil.rmtree(directory, ignore_errors=True)


def show(console: Console, system: Platform, check: Callable[[], None]) -> bool:
    """Run everything, print what came of it; whether it was what had to come. `check` raises if we are to stop."""
    from tasks.messages import submit_job

    console.print(f"\nsubmitting {len(JOBS)} jobs; a worker is provisioned for each, as far as there are slots")
    jobs = [submit_job(system, command, actor="demo") for command, _ in JOBS]
    client = SagaClient(app=system.app, database_url=system.settings.require_database())
    orders = [client.start("demo_order", payload, actor="demo") for payload, _ in ORDERS]
    rows, results = watch(console, system, jobs, orders, check)
    codes = [row.exit_code for row in rows]
    endings = [result.outcome for result in results]
    tell_undo(console, system, orders[-1].saga_id, results[-1])
    recovered = show_recovery(console, system, Path(os.environ["HODEI_HOME"]), check)
    console.print(summary(system, rows))
    right = recovered and codes == [code for _, code in JOBS] and endings == [ending for _, ending in ORDERS]
    if not right:
        console.print(f"[red]not what was expected[/red]: exit codes {codes}, orders {[str(one) for one in endings]}")
    return right


def watch(
    console: Console, system: Platform, jobs: list[JobId], orders: list[SagaHandle], check: Callable[[], None]
) -> tuple[list[Job], list[SagaResult]]:
    """Show the progress until all have ended (or the patience has): the jobs' rows and the orders' results."""
    deadline = time.monotonic() + PATIENCE
    columns = (TextColumn("{task.description:32}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console) as progress:
        bar = progress.add_task("jobs", total=len(jobs))
        while True:
            check()
            with records(system) as opened:
                rows = [opened.jobs.get(job_id) for job_id in jobs]
                workers = opened.workers.list()
            ended = sum(row.finished_at is not None for row in rows)
            running = sum(row.state == "RUNNING" for row in rows)
            progress.update(bar, completed=ended, description=f"jobs: {running} running, {len(workers)} workers")
            if ended == len(rows) or time.monotonic() > deadline:
                break
            time.sleep(0.1)
        bar = progress.add_task("sagas: orders", total=len(orders))
        results = []
        for order in orders:
            results.append(order.result(timeout=max(1.0, deadline - time.monotonic())))
            progress.advance(bar)
            check()
    return rows, results


def tell_undo(console: Console, system: Platform, saga_id: SagaId, result: SagaResult) -> None:
    """The saga that failed late, step by step, from its events."""
    console.print(f"\nan order that fails at its last step ends {result.outcome}: {result.error}")
    with records(system) as opened:
        for event in opened.sagas.events(saga_id):
            step = f" {event.step_name}" if event.step_name else ""
            console.print(f"  {event.event_type}{step}")
    console.print()
