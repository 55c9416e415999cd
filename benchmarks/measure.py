"""One run of one contender: throughput, idle latency, counts. Rounds and their order are `session`'s."""

import statistics
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from benchmarks import counts
from benchmarks.contenders.base import Contender
from benchmarks.servers import Servers
from benchmarks.stand import Job, Options, Stand, stand

C = TypeVar("C", bound=Contender)

POLL = 0.02
WARM_UP = 40


def throughput(
    servers: Servers,
    options: Options,
    kind: type[Contender],
    job: Job,
    sagas: int,
    *,
    settle: bool,
    warm_up: int = WARM_UP,
    database_url: str | None = None,
) -> dict[str, Any]:
    """Sagas a second, from the release of a queue of `sagas` to the last end; what they cost. Raises Wrong.

    `settle`: wait until WAL flushes can be told, before and after (22 s).
    """
    with stand(servers, options, database_url) as place:
        contender = _started(kind, place, job)
        try:
            contender.submit(warm_up)
            wait(contender, 60 + warm_up * job.steps / 10)
            contender.hold()
            contender.submit(sagas)
            size = contender.message_bytes()
            flushed = _flushes(servers) if settle else None
            before = counts.look(servers, contender)
            begun = time.perf_counter()
            contender.release()
            wait(contender, 60 + sagas * job.steps / 10)
            seconds = time.perf_counter() - begun
            after = counts.look(servers, contender)
            result: dict[str, Any] = {"sagas": sagas, "steps": job.steps, "seconds": seconds, "rate": sagas / seconds}
            result |= counts.costs(before, after, sagas)
            result |= {"message_bytes": size}
            if flushed:
                result |= _flushes(servers).since(flushed, sagas)
            contender.check()
        finally:
            contender.close()
        return result


def latency(
    servers: Servers, options: Options, kind: type[Contender], job: Job, times: int, pause: float
) -> dict[str, Any]:
    """Milliseconds of one saga at a time, from the call that starts it to the end of its last commit; `pause` (seconds)
    after the one before it.
    """
    with stand(servers, options) as place:
        contender = _started(kind, place, job, timed=True)
        try:
            for _ in range(10):
                contender.one()
            taken = []
            for _ in range(times):
                time.sleep(pause)
                taken.append(1000 * contender.one())
            contender.check()
        finally:
            contender.close()
    cuts = statistics.quantiles(taken, n=20, method="inclusive")
    return {"times": times, "p50": statistics.median(taken), "p95": cuts[-1], "pause": pause, "ms": sorted(taken)}


def count(servers: Servers, options: Options, kind: type[Contender], job: Job, sagas: int) -> dict[str, Any]:
    """What one saga costs, one at a time so that no commit shares another's flush; the worker and its client alone."""
    with stand(servers, options) as place:
        counts.log_statements(servers, place.database_url)
        contender = _started(kind, place, job, timed=True, alone=True)
        try:
            for _ in range(10):
                contender.one()
            flushed = _flushes(servers)
            before = counts.look(servers, contender)
            for _ in range(sagas):
                contender.one()
            after = counts.look(servers, contender)
            result: dict[str, Any] = {"sagas": sagas, "steps": job.steps}
            result |= _flushes(servers).since(flushed, sagas)
            result |= counts.costs(before, after, sagas)
            result |= counts.statements(servers, place.database_url, before, after, sagas)
            contender.check()
        finally:
            contender.close()
    return result


@contextmanager
def held(servers: Servers, options: Options, kind: type[C]) -> Iterator[C]:
    """A contender of the usual job that is started, and takes nothing until it is released."""
    with stand(servers, options) as place:
        contender = _started(kind, place, Job())
        try:
            contender.hold()
            yield contender
        finally:
            contender.close()


def _started(kind: type[C], place: Stand, job: Job, *, timed: bool = False, alone: bool = False) -> C:
    contender = kind(place, job, timed=timed, alone=alone)
    try:
        contender.start()
    except BaseException:
        contender.close()
        raise
    return contender


def _flushes(servers: Servers) -> counts.Flushes:
    time.sleep(counts.SETTLE)
    return counts.flushes(servers)


def wait(contender: Contender, timeout: float) -> None:
    deadline = time.monotonic() + timeout
    while not contender.finished():
        if time.monotonic() > deadline:
            raise TimeoutError(f"{contender.name}: not finished within {timeout:.0f} s")
        time.sleep(POLL)
