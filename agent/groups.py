"""Finding and killing all the processes of one assignment, also after a restart of the agent."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from pathlib import Path
from typing import Any

import psutil

from sagas.jobs.types import AssignmentId

ASSIGNMENT_VARIABLE = "HODEI_ASSIGNMENT_ID"


def group_record(pgid: int) -> dict[str, Any]:
    """What names a process group of this session beyond the life of the agent, and of this host's present run."""
    return {"pgid": pgid, "sid": os.getsid(0), "boot": _boot()}


def _boot() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return "unknown"


def signal_group(pgid: int, number: signal.Signals) -> None:
    """Signal a process group; one that is gone is fine."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pgid, number)


def processes_of(assignment_id: AssignmentId, record: dict[str, Any] | None = None) -> list[psutil.Process]:
    """What is alive of an assignment: its group and session as recorded, and all that carry its id in their
    environment, which finds those too that went into a session of their own or were never recorded.
    """
    if record is not None and record["boot"] != _boot():
        record = None  # other processes have those numbers now
    return [process for process in psutil.process_iter() if _belongs(process, assignment_id, record)]


def _belongs(process: psutil.Process, assignment_id: AssignmentId, record: dict[str, Any] | None) -> bool:
    try:
        if process.status() == psutil.STATUS_ZOMBIE:
            return False
        if record is not None and os.getpgid(process.pid) == record["pgid"]:
            # The session tells a group of ours from one that got the same number later.
            return bool(os.getsid(process.pid) == record["sid"])
        return process.environ().get(ASSIGNMENT_VARIABLE) == str(assignment_id)
    except (psutil.Error, OSError):
        return False


def kill_all(assignment_id: AssignmentId, record: dict[str, Any] | None = None, timeout: float = 10) -> bool:
    """SIGKILL all that is left of an assignment; False if something is still there after `timeout` seconds."""
    deadline = time.monotonic() + timeout
    while left := processes_of(assignment_id, record):
        for process in left:
            with contextlib.suppress(psutil.Error):
                process.kill()
        psutil.wait_procs(left, timeout=0.2)
        if time.monotonic() > deadline:
            return False
    return True
