"""What the apps of all Celery contenders have in common. Imports nothing of the project: other environments use it."""

import os
import time
from typing import Any

from celery import Celery, signals

STEPS = int(os.environ.get("BENCH_STEPS", "4"))
FAILS = os.environ.get("BENCH_FAILS") == "1"
"""The last step fails for good, and the ones before it are undone."""

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
    """Write `<saga id> <time>` at the end of each task to the pipe BENCH_ENDS, if there is one."""
    path = os.environ.get("BENCH_ENDS")
    if not path:
        return
    # Opened before the pool forks; each write is one line, and none is mixed with another's.
    file = os.open(path, os.O_WRONLY)

    @signals.task_postrun.connect(weak=False)
    def note(args: Any = None, kwargs: Any = None, **_: Any) -> None:
        saga_id = kwargs.get("saga_id") or next(iter(args), "")
        os.write(file, f"{saga_id} {time.time():.6f}\n".encode())
