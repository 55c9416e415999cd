"""What one PostgreSQL carries: a queueing simulation with the costs that this session has measured.

Workers on machines of their own run steps one after another. Each step is some work of the worker (Celery's part and
ours), then PostgreSQL's work on one of its cores, then the flush of its commit: one flush at a time, and whoever asks
while one runs shares the next (group commit). Nothing else is modelled, no lock and no checkpoint.
"""

import heapq
import random
from dataclasses import dataclass
from itertools import count
from typing import Any

CORES = (2, 16, 64)
FLUSHES = (0.0002, 0.001, 0.005)
"""Seconds: this kind of machine, a good disk, a slow one."""
NETWORK = 0.0002
"""Seconds of a round trip between a worker and PostgreSQL."""
PER_CORE = (1, 2, 4, 8, 16)
"""Worker processes for each core of PostgreSQL."""
SECONDS = 4.0
SEED = 5


@dataclass(frozen=True)
class Costs:
    """Seconds of one step."""

    worker: float
    postgres: float


def costs(run: dict[str, Any]) -> Costs:
    """Of a run for throughput: what a saga cost by process, divided by its steps."""
    return Costs(run["cpu_ms"]["worker"] / 1000 / run["steps"], run["cpu_ms"]["postgres"] / 1000 / run["steps"])


def steps_a_second(found: Costs, cores: int, workers: int, flush: float, seconds: float = SECONDS) -> float:
    """Of so many workers, by simulation. Times of work are drawn around their means (exponentially)."""
    draw = random.Random(SEED)
    order = count()
    events: list[tuple[float, int, str]] = []
    waiting = busy = done = 0
    joined, flushing = 0, False

    def at(when: float, what: str) -> None:
        heapq.heappush(events, (when, next(order), what))

    def work(mean: float) -> float:
        return draw.expovariate(1 / mean)

    for _ in range(workers):
        at(work(found.worker) + NETWORK, "asks")
    now = 0.0
    while now < seconds:
        now, _, what = heapq.heappop(events)
        if what == "asks":
            waiting += 1
        elif what == "answered":
            busy -= 1
            joined += 1
        elif what.startswith("flushed"):
            flushing = False
            for _ in range(int(what.split()[1])):
                done += 1
                at(now + work(found.worker) + NETWORK, "asks")
        while waiting and busy < cores:
            waiting, busy = waiting - 1, busy + 1
            at(now + work(found.postgres), "answered")
        if joined and not flushing:
            at(now + flush, f"flushed {joined}")
            flushing, joined = True, 0
    return done / seconds


def simulate(run: dict[str, Any]) -> dict[str, Any]:
    """Steps a second by cores, flush and number of workers."""
    found = costs(run)
    table = [
        {
            "cores": cores,
            "flush_ms": 1000 * flush,
            "steps": {str(cores * each): steps_a_second(found, cores, cores * each, flush) for each in PER_CORE},
        }
        for cores in CORES
        for flush in FLUSHES
    ]
    return {
        "worker_ms": 1000 * found.worker,
        "postgres_ms": 1000 * found.postgres,
        "steps": run["steps"],
        "table": table,
    }
