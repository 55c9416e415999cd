"""A time limit that strikes inside the step's own process (R12), and patience with servers that are away."""

from __future__ import annotations

import signal
import threading
import time

# signal's own looks for an enum's member in vain, which takes fifty times as long.
from _signal import getsignal  # type: ignore[import-not-found]
from collections.abc import Callable
from typing import Any, TypeVar

from billiard.process import current_process

from sagas.errors import StepTimeLimit, StorageUnavailable
from sagas.runtime.watchdog import unwatch, watch

T = TypeVar("T")

# How long (seconds) a message waits for PostgreSQL before it is dropped, and reconcile sends another. Longer than an
# outage of a minute: its claim may be granted and only the reply lost, and giving up would then spend an attempt.
CLAIM_PATIENCE = 120.0
# How long an attempt that has ended waits to be recorded: an outage spends no attempt, and there is nothing else to do.
COMMIT_PATIENCE = 3600.0
# Pauses (seconds) after which a claim looks again for a saga that is not there: its first message may have been
# published while its rows were written (decision 0019).
ROWS_AWAITED = (0.0004, 0.0008, 0.0016, 0.0032, 0.0064, 0.0128)
# The end of a process comes this long after its step's own timer: it is for code that no signal interrupts.
KILL_AFTER = 1.0


def message_limit(seconds: float) -> float:
    """Celery's hard limit of a message whose step has a limit of `seconds`: it must not strike while we wait."""
    return CLAIM_PATIENCE + seconds + KILL_AFTER + COMMIT_PATIENCE


class time_limit:  # noqa: N801 - used as a function, like contextlib's own
    """Raise StepTimeLimit in the body after `seconds`; a pool child that this cannot interrupt ends a second later.

    Outside the main thread there is no such timer: no limit. Whoever catches StepTimeLimit calls `calm`.
    """

    __slots__ = ("_before", "_here", "_in_pool", "_seconds")

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds

    def __enter__(self) -> None:
        self._here = threading.current_thread() is threading.main_thread()
        if not self._here:
            return
        self._in_pool = _in_pool()
        self._before = getsignal(signal.SIGALRM)
        if self._before is not _strike:
            signal.signal(signal.SIGALRM, _strike)
        _running.append(self._seconds)
        signal.setitimer(signal.ITIMER_REAL, self._seconds)
        if self._in_pool:
            # Not Celery's limit, which counts the whole message: this watch is over when the author's code is.
            watch(self._seconds + KILL_AFTER)

    def __exit__(self, *_: object) -> None:
        if not self._here:
            return
        # First: an alarm that comes now is too late, and must not leave the watch behind. (It is gone if one within was
        # calmed.)
        del _running[-1:]
        if self._in_pool:
            unwatch()
        signal.setitimer(signal.ITIMER_REAL, 0)
        # The alarm of a pool's child is ours for good: to set the handler twice for each step would cost more than the
        # rest of this.
        if self._before is not _strike and not self._in_pool:
            signal.signal(signal.SIGALRM, self._before)


_running: list[float] = []
"""The limit of what runs in the main thread just now."""


def calm() -> None:
    """After StepTimeLimit: nothing of the limit is left, wherever it struck; it may have been on the way in or out."""
    _running.clear()
    if threading.current_thread() is threading.main_thread():
        signal.setitimer(signal.ITIMER_REAL, 0)
        if _in_pool():
            unwatch()


def _in_pool() -> bool:
    return getattr(current_process(), "index", None) is not None


def _strike(_signal: int, _frame: Any) -> None:
    if _running:  # else it came in the moment in which the body had ended
        raise StepTimeLimit(f"stopped by its time limit of {_running[-1]:g} s")


def patiently(work: Callable[[], T], seconds: float) -> T:
    """Do it, again while PostgreSQL is away, for at most `seconds`; then StorageUnavailable as it came."""
    until = time.monotonic() + seconds
    pause = 0.1
    while True:
        try:
            return work()
        except StorageUnavailable:
            if time.monotonic() + pause > until:
                raise
        time.sleep(pause)
        pause = min(pause * 2, 2.0)
