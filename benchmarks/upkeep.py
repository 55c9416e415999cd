"""What is paid beside the steps: reconcile with a backlog, and the relay for each event that somebody wants."""

import statistics
import time
from typing import Any

from benchmarks import counts, measure
from benchmarks.contenders.base import Wrong
from benchmarks.contenders.ours import Ours, OursSubscribed
from benchmarks.servers import Servers
from benchmarks.stand import Job, Options

WINDOW = 30.0
FIRST_LOOKS = 8.0
"""Seconds after which a backlog has been looked at once."""


def backlog(servers: Servers, options: Options, sagas: int) -> dict[str, Any]:
    """Percent of one core, by process, while so many sagas wait for a worker that takes none; beat and control run."""
    with measure.held(servers, options, Ours) as contender:
        contender.submit(sagas)
        time.sleep(FIRST_LOOKS)
        queued = _queued(servers)
        before, begun = counts.look(servers, contender), time.monotonic()
        time.sleep(WINDOW)
        after, seconds = counts.look(servers, contender), time.monotonic() - begun
        grown, own = _queued(servers) - queued, contender.waiting_messages()
    if grown or queued != own:
        raise Wrong(f"{sagas} sagas wait for {own} messages, and {queued} are there; {grown} more were sent meanwhile")
    percent = {name: 100 * (after.cpu[name] - before.cpu[name]) / seconds for name in before.cpu}
    return {"sagas": sagas, "messages": queued, "percent": percent, "total": sum(percent.values())}


def _queued(servers: Servers) -> int:
    with servers.broker.client() as broker:
        return int(broker.llen("steps"))


def relay(servers: Servers, options: Options, sagas: int, rounds: int) -> dict[str, Any]:
    """Milliseconds of CPU for each event that one subscriber wants, its own task included: with it less without it."""
    spent = []
    for _ in range(rounds):
        runs = [
            measure.throughput(servers, options, kind, Job(), sagas, settle=False) for kind in (OursSubscribed, Ours)
        ]
        with_it, without = (run["cpu_ms_total"] for run in runs)
        spent.append((with_it - without) / Job().steps)
    return {"events": sagas * Job().steps, "ms": spent, "median": statistics.median(spent)}
