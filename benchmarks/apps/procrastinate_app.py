"""The same job with Procrastinate: `python -m benchmarks.apps.procrastinate_app <role> <socket>`.

`worker` executes jobs, `client` defers the first one of each chain. Runs in an environment of its own.
"""

import os
import sys
import threading
import time

from procrastinate import App, PsycopgConnector, SyncPsycopgConnector

from benchmarks.apps.driver import serve

STEPS = int(os.environ.get("BENCH_STEPS", "4"))
URL = os.environ["BENCH_DATABASE_URL"]

app = App(connector=PsycopgConnector(conninfo=URL))


@app.task(name="step", queue="bench")
async def step(number: int) -> None:
    if number < STEPS:
        await step.defer_async(number=number + 1)


def worker(path: str) -> None:
    with App(connector=SyncPsycopgConnector(conninfo=URL)).open() as making:
        if not making.check_connection():
            making.schema_manager.apply_schema()
    driver = threading.Thread(target=serve, args=(path, {"ready": lambda: True}), daemon=True)
    driver.start()
    app.run_worker(queues=["bench"], concurrency=1, delete_jobs="never", install_signal_handlers=False)


def client(path: str) -> None:
    with app.replace_connector(SyncPsycopgConnector(conninfo=URL)) as asking, asking.open():
        first = asking.tasks["step"]

        def start(count: int) -> tuple[float, int]:
            begun, job = 0.0, 0
            for _ in range(count):
                begun = time.time()
                job = first.defer(number=1)
            return begun, job

        serve(path, {"start": start})


if __name__ == "__main__":
    {"worker": worker, "client": client}[sys.argv[1]](sys.argv[2])
