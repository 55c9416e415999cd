"""A Celery app with the engine and no saga of its own: `hodei up` is tested on it."""

import os

from celery import Celery
from celery.signals import celeryd_init

import sagas

URL = os.environ.get("HODEI_BROKER_URL", "redis://127.0.0.1:1/0")
app = Celery("small", broker=URL, backend=URL)
sagas.install(app)


@app.task(name="small.pid")
def pid() -> int:
    """Who answers."""
    return os.getpid()


@celeryd_init.connect
def fail_to_start(**_: object) -> None:
    """A worker that does not come up, while the app itself loads well."""
    if os.environ.get("SMALL_APP_WORKER_FAILS"):
        raise SystemExit("no licence for this worker")
