"""The same job with sagaz: `python -m benchmarks.apps.sagaz_app worker <socket>`. Runs in an environment of its own."""

import asyncio
import os
import sys
import time
from typing import Any

from sagaz.core.replay import ReplayConfig, SnapshotStrategy
from sagaz.core.saga import Saga
from sagaz.core.storage.backends.postgresql.snapshot import PostgreSQLSnapshotStorage

from benchmarks.apps.driver import serve

STEPS = int(os.environ.get("BENCH_STEPS", "4"))
URL = os.environ["BENCH_DATABASE_URL"]
KEEP = ReplayConfig(enable_snapshots=True, snapshot_strategy=SnapshotStrategy.AFTER_EACH_STEP)


async def act(context: Any) -> dict[str, int]:
    return {"step": 1}


def worker(path: str) -> None:
    loop = asyncio.new_event_loop()
    storage = PostgreSQLSnapshotStorage(URL, pool_min_size=1, pool_max_size=8)

    async def run() -> None:
        saga = Saga("bench", replay_config=KEEP, snapshot_storage=storage)
        for number in range(1, STEPS + 1):
            await saga.add_step(f"step_{number}", act)
        result = await saga.execute()
        if not result.success:
            raise RuntimeError(f"sagaz: {result.error}")

    async def run_all(count: int, at_once: int) -> None:
        waiting = iter(range(count))

        async def some() -> None:
            for _ in waiting:
                await run()

        await asyncio.gather(*(some() for _ in range(at_once)))

    def call(count: int, at_once: int = 1) -> float:
        begun = time.perf_counter()
        loop.run_until_complete(run_all(count, at_once))
        return time.perf_counter() - begun

    def ready() -> bool:
        loop.run_until_complete(storage._get_pool())  # makes the tables, which two processes cannot do at once
        return True

    serve(path, {"call": call, "ready": ready})


if __name__ == "__main__":
    worker(sys.argv[2])
