"""The same job with celery-saga, its records in Redis. Runs in an environment of its own.

`celery -A benchmarks.apps.celery_saga worker` works, `python -m benchmarks.apps.celery_saga <socket>` starts sagas.
"""

import os
import sys
import time
from typing import Any

from celery_saga import Saga, StepResponse, set_default_backend
from celery_saga.backends.redis import RedisSagaBackend
from celery_saga.step import PermanentFailure

from benchmarks.apps.driver import serve
from benchmarks.apps.shared import FAILS, STEPS, make_app

app = make_app("celery_saga")
set_default_backend(RedisSagaBackend(url=os.environ["BENCH_BROKER_URL"]))


@app.task(name="bench.step")
def step(**context: Any) -> StepResponse:
    return StepResponse(output={"step": 1}, compensation_data={"step": 1})


@app.task(name="bench.fail")
def fail(**context: Any) -> None:
    raise PermanentFailure("the last step fails")


@app.task(name="bench.undo")
def undo(compensation_data: Any) -> None:
    return None


def make_saga() -> Saga:
    saga = Saga("bench")
    for number in range(1, STEPS + 1):
        if FAILS and number == STEPS:
            saga.add_step(fail, no_compensation=True)
        elif FAILS:
            saga.add_step(step, compensate=undo)
        else:
            saga.add_step(step, no_compensation=True)
    return saga


def start(count: int) -> tuple[float, str]:
    """Start so many sagas; when the last one was asked for, and its id."""
    begun, saga_id = 0.0, ""
    for _ in range(count):
        begun = time.time()
        saga_id = make_saga().run().saga_id
    return begun, saga_id


if __name__ == "__main__":
    serve(sys.argv[1], {"start": start})
