"""The same job with DBOS: `python -m benchmarks.apps.dbos_app <role> <socket>`. Runs in an environment of its own.

`worker` executes workflows, from the queue and by direct calls; `client` enqueues them.
"""

import os
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from dbos import DBOS, DBOSClient

from benchmarks.apps.driver import serve

STEPS = int(os.environ.get("BENCH_STEPS", "4"))
FAILS = os.environ.get("BENCH_FAILS") == "1"
URL = os.environ["BENCH_DATABASE_URL"]
QUEUE = "bench"
VERSION = "bench"


@DBOS.step()
def act(number: int) -> dict[str, int]:
    return {"step": number}


@DBOS.step()
def fail(number: int) -> None:
    raise ValueError("the last step fails")


@DBOS.step()
def undo(number: int) -> None:
    return None


@DBOS.workflow()
def job() -> None:
    done = []
    try:
        for number in range(1, STEPS + 1):
            if FAILS and number == STEPS:
                fail(number)
            act(number)
            done.append(number)
    except ValueError:
        for number in reversed(done):
            undo(number)
        raise


def call(count: int, threads: int = 1) -> float:
    """Run so many by direct calls, `threads` at a time; the seconds that it took."""
    begun = time.perf_counter()
    if threads == 1:
        for _ in range(count):
            _call()
    else:
        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(lambda _: _call(), range(count)))
    return time.perf_counter() - begun


def _call() -> None:
    try:
        job()
    except ValueError:
        if not FAILS:
            raise


def worker(path: str) -> None:
    queued = os.environ.get("BENCH_QUEUE") == "1"
    DBOS(
        config={
            "name": "bench",
            "system_database_url": URL,
            "application_version": VERSION,
            "executor_id": f"worker-{os.getpid()}",
            "console_log_level": "CRITICAL" if FAILS else "WARNING",
            "db_engine_kwargs": {"connect_args": {"application_name": "worker"}},
        }
    )
    DBOS.launch()
    if queued:
        DBOS.register_queue(
            QUEUE,
            worker_concurrency=int(os.environ["BENCH_WORKER_CONCURRENCY"]),
            polling_interval_sec=float(os.environ["BENCH_POLLING"]),
        )
    serve(path, {"call": call, "ready": lambda: True})
    DBOS.destroy()


def client(path: str) -> None:
    asking = DBOSClient(system_database_url=URL)
    options: Any = {"queue_name": QUEUE, "workflow_name": job.__qualname__, "app_version": VERSION}

    def start(count: int) -> tuple[float, str]:
        begun, workflow_id = 0.0, ""
        for _ in range(count):
            begun = time.time()
            workflow_id = asking.enqueue(options).get_workflow_id()
        return begun, workflow_id

    serve(path, {"start": start, "ready": lambda: True})
    asking.destroy()


if __name__ == "__main__":
    {"worker": worker, "client": client}[sys.argv[1]](sys.argv[2])
