"""Who this process is, so that its death can be proven from the same host (R11)."""

from __future__ import annotations

import functools
import os
import socket
import uuid
from pathlib import Path

from sagas.store.requests import Claimant


@functools.cache
def host_id() -> str | None:
    """Boot and pid namespace: within one of these a pid and its start time name one process for ever.

    None where there is no /proc: nothing can be proven there, and leases alone decide.
    """
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot}/{os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return None


def process_started(pid: int) -> float | None:
    """The start of a process in clock ticks since boot; None if it is gone, or dead and only not reaped yet."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    # The name may hold spaces and brackets; what follows its last bracket is state, ppid, ... (proc(5)).
    fields = stat.rpartition(")")[2].split()
    return None if fields[0] in "ZX" else float(fields[19])


def is_dead(pid: int, started: float) -> bool:
    """Whether the process that had this pid and start time is gone."""
    return process_started(pid) != started


def claimant(node: str | None = None, incarnation: uuid.UUID | None = None) -> Claimant:
    """This process as a claimant of steps; `incarnation` is its worker's, None for a script."""
    return _claimant(os.getpid(), node, incarnation)


@functools.lru_cache(maxsize=8)
def _claimant(pid: int, node: str | None, incarnation: uuid.UUID | None) -> Claimant:
    """A fork is another process, by its pid."""
    started = process_started(pid)
    name = node or f"script@{socket.gethostname()}"
    if host_id() is None or started is None:
        return Claimant(name, incarnation=incarnation)
    return Claimant(name, host_id(), pid, started, incarnation)
