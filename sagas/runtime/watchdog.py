"""The end of this process at a time that nothing in it can put off: a timer of the kernel's, and no thread for it.

`faulthandler.dump_traceback_later` does the same with a thread for each watch, which made a fifth of what a trivial
step cost its process; it stays for systems without POSIX timers.
"""

from __future__ import annotations

import ctypes
import faulthandler
import functools
import os
import signal
import sys
import time
from typing import Any, TextIO

SIGNAL = signal.SIGVTALRM
"""Ends a process unless it is handled; nobody else in a worker uses it."""


class _Spec(ctypes.Structure):
    """struct itimerspec (timer_settime(2)): interval and value, each in seconds and nanoseconds."""

    _fields_ = tuple((name, ctypes.c_long) for name in ("every_s", "every_ns", "value_s", "value_ns"))


class _Event(ctypes.Structure):
    """struct sigevent (sigevent(7)); sigev_notify 0 is SIGEV_SIGNAL."""

    _fields_ = (
        ("value", ctypes.c_void_p),
        ("signo", ctypes.c_int),
        ("notify", ctypes.c_int),
        ("rest", ctypes.c_char * 48),
    )


def watch(seconds: float) -> None:
    """This process ends after so many seconds, its traceback on stderr, unless `unwatch` is called before."""
    timer = _timer(os.getpid())
    if timer is None:
        faulthandler.dump_traceback_later(seconds, exit=True, file=_last_words())
    else:
        timer(seconds)


def unwatch() -> None:
    """Not any more."""
    timer = _timer(os.getpid())
    if timer is None:
        faulthandler.cancel_dump_traceback_later()
    else:
        timer(0.0)


@functools.cache
def _timer(_pid: int) -> Any:
    """Sets the timer of this process (a child does not inherit it); None where there is none to be had."""
    try:
        library = ctypes.CDLL(None, use_errno=True)
        create, settime = library.timer_create, library.timer_settime
    except (OSError, AttributeError):
        return None
    event, handle = _Event(signo=SIGNAL, notify=0), ctypes.c_void_p()
    if create(time.CLOCK_MONOTONIC, ctypes.byref(event), ctypes.byref(handle)) != 0:
        return None
    # In C, so that it needs no interpreter that listens; then the signal's own way, which is the end.
    signal.signal(SIGNAL, signal.SIG_DFL)
    faulthandler.register(SIGNAL, file=_last_words(), all_threads=True, chain=True)

    @functools.lru_cache(maxsize=64)
    def spec_of(seconds: float) -> Any:
        whole = int(seconds)
        return ctypes.byref(_Spec(0, 0, whole, int((seconds - whole) * 1e9)))

    def set_timer(seconds: float) -> None:
        if settime(handle, 0, spec_of(seconds), None) != 0:
            raise OSError(ctypes.get_errno(), "timer_settime")

    return set_timer


@functools.cache
def _last_words() -> TextIO:
    """Where the traceback of a killed step goes: Celery may have put a logger in the place of sys.stderr."""
    try:
        if sys.__stderr__ is not None and sys.__stderr__.fileno() >= 0:
            return sys.__stderr__
    except (OSError, ValueError):
        pass
    return open(os.devnull, "w")
