"""A time limit that strikes inside the step's own process (R12), and patience with servers that are away."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from sagas.errors import StepTimeLimit, StorageUnavailable

T = TypeVar("T")


@contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Raise StepTimeLimit in the body after `seconds`. Outside the main thread there is no such timer: no limit."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def strike(_signal: int, _frame: Any) -> None:
        raise StepTimeLimit(f"stopped by its time limit of {seconds:g} s")

    before = signal.signal(signal.SIGALRM, strike)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
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
