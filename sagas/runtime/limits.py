"""A time limit that strikes inside the step's own process (R12), and patience with servers that are away."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
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
# The end of a process comes this long after its step's own timer: it is for code that no signal interrupts.
KILL_AFTER = 1.0


def message_limit(seconds: float) -> float:
    """Celery's hard limit of a message whose step has a limit of `seconds`: it must not strike while we wait."""
    return CLAIM_PATIENCE + seconds + KILL_AFTER + COMMIT_PATIENCE


@contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Raise StepTimeLimit in the body after `seconds`; a pool child that this cannot interrupt ends a second later.

    Outside the main thread there is no such timer: no limit.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def strike(_signal: int, _frame: Any) -> None:
        raise StepTimeLimit(f"stopped by its time limit of {seconds:g} s")

    before = signal.signal(signal.SIGALRM, strike)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    # Not Celery's limit, which counts the whole message: this watch is over when the author's code is.
    in_pool = getattr(current_process(), "index", None) is not None
    if in_pool:
        watch(seconds + KILL_AFTER)
    try:
        yield
    finally:
        if in_pool:
            unwatch()
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


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
