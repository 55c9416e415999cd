"""What the apps of all Celery contenders have in common. Imports nothing of the project: other environments use it."""

import os
import socket
import time
from typing import Any

from celery import Celery, signals

STEPS = int(os.environ.get("BENCH_STEPS", "4"))
FAILS = os.environ.get("BENCH_FAILS") == "1"
"""The last step fails for good, and the ones before it are undone."""
RECORD = 64
"""Bytes of what is told of each task's end."""

SETTINGS: dict[str, Any] = {
    "accept_content": ["json"],
    "task_serializer": "json",
    "task_acks_late": True,
    "task_ignore_result": True,
    "broker_connection_retry_on_startup": True,
}


def make_app(name: str) -> Celery:
    """An app with the settings that all share; without a database's or another's own ones."""
    app = Celery(name, broker=os.environ["BENCH_BROKER_URL"], set_as_current=True)
    app.conf.update(SETTINGS)
    _note_ends()
    return app


def _note_ends() -> None:
    """Write `<saga id> <time>` at the end of each task to the socket BENCH_ENDS, if there is one."""
    path = os.environ.get("BENCH_ENDS")
    if not path:
        return
    # Before the pool forks: its processes share the line, and each sends a record at once.
    line = socket.socket(socket.AF_UNIX)
    line.connect(path)

    @signals.task_postrun.connect(weak=False)
    def note(args: Any = None, kwargs: Any = None, **_: Any) -> None:
        saga_id = kwargs.get("saga_id") or next(iter(args), "")
        line.sendall(f"{saga_id} {time.time():.6f}".ljust(RECORD - 1).encode() + b"\n")
