"""A coverage.py plug-in for `make coverage`: each process writes down every second which lines it has run.

Most processes of the tests are killed, on purpose or at the end of their test, and coverage.py writes at an orderly end
only. It is loaded wherever coverage.py starts, before anything of ours is imported, so it imports nothing of ours.
"""

import os
import threading
import time
from typing import Any

import coverage

EVERY = 1  # seconds
SAVING = threading.Lock()
"""No fork in the midst of a save: the child would inherit locks that nobody releases."""


def coverage_init(_registry: Any, _options: dict[str, str]) -> None:
    """Called by coverage.py as it starts in a process. A forked child goes on measuring, but has no threads."""
    os.register_at_fork(before=SAVING.acquire, after_in_parent=SAVING.release, after_in_child=_go_on)
    _start()


def _go_on() -> None:
    SAVING.release()
    _start()


def _start() -> None:
    threading.Thread(target=_save_again_and_again, name="coverage", daemon=True).start()


def _save_again_and_again() -> None:
    while True:
        time.sleep(EVERY)
        if not threading.main_thread().is_alive():
            return  # the interpreter is at its end, and coverage.py's own handler saves
        if running := coverage.Coverage.current():
            with SAVING:
                running.save()
