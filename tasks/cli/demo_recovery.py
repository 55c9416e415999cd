"""The part of `hodei demo` in which a busy worker is killed: its job finishes on another one."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from rich.console import Console

from models import Job, Worker
from sagas.jobs.types import JobCommand, JobId, JobState, WorkerState
from tasks.cli.access import records

if TYPE_CHECKING:
    from tasks.platform import Platform

T = TypeVar("T")

SETTINGS = {"HODEI_WORKER_BEAT": "1", "HODEI_WORKER_DEAD": "5", "HODEI_PROVIDER": "process"}
"""The demo's system notices sooner, and its workers are processes that can be killed."""
PATIENCE = 60.0
SCRIPT = 'if test -e "$MARK"; then echo "once more, on another worker"; else touch "$MARK"; exec sleep 600; fi'
"""Takes for ever the first time, and no time the second."""


def show_recovery(console: Console, system: Platform, directory: Path, check: Callable[[], None]) -> bool:
    """Kill the worker of a running job; whether the job then ended well, once, and nothing is left of the worker."""
    from tasks.messages import submit_job

    mark = directory / "demo-recovery"
    job_id = submit_job(system, JobCommand((), script=SCRIPT, env={"MARK": str(mark)}), actor="demo")
    try:
        running = _until(lambda: _job(system, job_id, running=True) if mark.exists() else None, check)
        pid = _kill(system, running)
        killed = time.monotonic()
        console.print(f"\nkill -9 of the agent of a busy worker (pid {pid}); its job was {running.state}")
        ended = _until(lambda: _job(system, job_id, ended=True), check)
        console.print(f"  job {ended.state} on another worker after {time.monotonic() - killed:.1f} s")
        worker = _until(lambda: _ended(system, running), check)
        console.print(f"  the old worker is {worker.state} after {time.monotonic() - killed:.1f} s")
    except TimeoutError:
        console.print("[red]its job did not come to its end on another worker[/red]")
        return False
    orphaned = system.lifecycle.has_orphaned_workers()
    return ended.state == JobState.SUCCEEDED and ended.worker_id != running.worker_id and not orphaned


def _job(system: Platform, job_id: JobId, *, running: bool = False, ended: bool = False) -> Job | None:
    with records(system) as opened:
        job = opened.jobs.get(job_id)
    right = (running and job.state == JobState.RUNNING) or (ended and job.finished_at is not None)
    return job if right else None


def _kill(system: Platform, job: Job) -> int:
    assert job.worker_id is not None
    with records(system) as opened:
        worker = opened.workers.find(job.worker_id)
    assert worker is not None and worker.reference is not None
    os.kill(int(worker.reference), signal.SIGKILL)
    return int(worker.reference)


def _ended(system: Platform, job: Job) -> Worker | None:
    assert job.worker_id is not None
    with records(system) as opened:
        worker = opened.workers.find(job.worker_id)
    return worker if worker is not None and worker.state == WorkerState.TERMINATED else None


def _until(look: Callable[[], T | None], check: Callable[[], None]) -> T:
    """Raises TimeoutError after PATIENCE seconds."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        check()
        found = look()
        if found is not None:
            return found
        time.sleep(0.05)
    raise TimeoutError
