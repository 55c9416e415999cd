"""What the harness asks of the operating system about processes."""

import ctypes
import os
import sys
from collections.abc import Callable

import psutil

MARK = "HODEI_TEST_RUN"
"""Environment variable that every process of one test inherits, whatever session it moves to."""

PR_SET_PDEATHSIG = 1


def die_with_parent(signal: int) -> Callable[[], None] | None:
    """A `preexec_fn` that lets the kernel send `signal` to the child when pytest dies (Linux only).

    The kernel means the thread that forked: start processes from the main thread.
    """
    if sys.platform != "linux":
        return None
    prctl = ctypes.CDLL(None).prctl  # loaded before the fork: the child must not import
    return lambda: prctl(PR_SET_PDEATHSIG, signal)


def alive(pid: int) -> bool:
    """Whether the process exists and is not a zombie."""
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def in_session(process: psutil.Process, session: int) -> bool:
    """Whether the living process belongs to that session."""
    try:
        return os.getsid(process.pid) == session and alive(process.pid)
    except (ProcessLookupError, PermissionError):
        return False


def marked(process: psutil.Process, mark: str) -> bool:
    """Whether the living process was started, directly or not, by the test with that mark."""
    try:
        return alive(process.pid) and process.environ().get(MARK) == mark
    except psutil.Error:
        return False
