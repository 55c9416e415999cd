"""A Celery app that is nobody's: the harness is tested on it, without the engine."""

import os

from celery import Celery

from tests.harness.effects import record, wait_for_lock

URL = os.environ["HODEI_BROKER_URL"]
app = Celery("trivial", broker=URL, backend=URL, include=["pytest_celery.vendors.worker.tasks"])
app.conf.update(
    task_acks_late=True, worker_prefetch_multiplier=1, beat_schedule={"tick": {"task": "trivial.tick", "schedule": 0.2}}
)


@app.task(name="trivial.work")
def work(lock: str) -> None:
    """Tell when it begins, wait for a lock of the test, tell that it is done."""
    record("begin", key=lock)
    wait_for_lock(lock)
    record("effect", key=lock)


@app.task(name="trivial.tick")
def tick() -> None:
    """What beat sends."""
    record("tick")
