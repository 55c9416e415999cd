"""Recovery times with the default settings: from a kill to the step running again, by the effects log (issue 3)."""

import math
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial

from tests.chaos.system import Servers, System, running
from tests.harness.effects import Effect
from tests.harness.processes import Process
from tests.harness.scenario import plan

PATIENCE = 30.0
"""Seconds after which an observation counts as infinite."""
HELD = "recovery"
BUDGETS = {"child": 6.0, "worker": 3.0, "machine": 10.0, "elsewhere": 10.0, "flush": 10.0, "postgres": 10.0}
ELSEWHERE = ("unshare", "--pid", "--fork", "--kill-child", "--mount-proc")
"""A pid namespace of its own (needs root): nobody can prove from outside that a process in it is dead."""
MEANING = {
    "child": "a pool child is killed; until its step runs again",
    "worker": "a whole worker is killed and started again; from its start until its steps run again",
    "machine": "a whole worker is killed and stays dead; until its steps run on another one",
    "elsewhere": "the same in a pid namespace of its own: only its silence tells; until its steps run on another one",
    "flush": "the broker forgets everything; until a saga whose message it held runs",
    "postgres": "PostgreSQL is stopped and started again; from its return until sagas that were running run on",
}


STARTING: list[float] = []
"""Of the restarted workers: seconds until each consumed."""


@dataclass
class Times:
    """Observations of one kind, in seconds; infinite where it did not recover."""

    kind: str
    seconds: list[float] = field(default_factory=list)

    def quantile(self, share: float) -> float:
        ordered = sorted(self.seconds)
        return ordered[min(len(ordered) - 1, math.ceil(share * len(ordered)) - 1)] if ordered else math.inf

    @property
    def kept(self) -> bool:
        return self.quantile(0.95) <= BUDGETS[self.kind]


def measure(shared: Servers, observations: int, say: Callable[[str], None] = lambda _: None) -> list[Times]:
    """At least so many observations of each kind."""
    kinds: dict[str, Callable[[System], list[float]]] = {
        "child": _child,
        "worker": _worker,
        "machine": _machine,
        "elsewhere": _machine,
        "flush": _flush,
        "postgres": _postgres,
    }
    results = []
    for kind, act in kinds.items():
        times = Times(kind)
        wrapper = ELSEWHERE if kind == "elsewhere" else ()
        if wrapper and not _may_be_elsewhere():
            say(f"  recovery of {kind}: not measured, `{' '.join(ELSEWHERE)}` is not allowed here")
            continue
        with running(shared, concurrency=3, wrapper=wrapper) as system:
            while len(times.seconds) < observations:
                times.seconds += act(system)
                say(f"  recovery of {kind}: {len(times.seconds)}, p95 {times.quantile(0.95):.2f} s")
        results.append(times)
    return results


def _may_be_elsewhere() -> bool:
    """Whether this user may make pid namespaces."""
    try:
        return subprocess.run([*ELSEWHERE, "true"], check=False, capture_output=True, timeout=10).returncode == 0
    except OSError:
        return False


def _hold(system: System, count: int) -> list[Effect]:
    """Start sagas whose second step blocks; the rows of its begin."""
    known = system.effects.count("begin", step="two")
    for _ in range(count):
        system.client.start("scenario", plan(two=f"lock:{HELD}"))
    system.effects.wait("begin", known + count, 30, step="two")
    system.effects.wait_until_blocked(HELD, count, 30)
    return system.effects.find("begin", step="two")[known:]


def _again(system: System, rows: list[Effect], since: datetime) -> list[float]:
    """Seconds until each of these steps began once more."""
    return _until_each([partial(_next_begin, system, row) for row in rows], since)


def _until_each(looks: Sequence[Callable[[], Effect | None]], since: datetime) -> list[float]:
    """Seconds until each of these was there; infinite where it was not in time."""
    until = time.monotonic() + PATIENCE
    while True:
        found = [look() for look in looks]
        if all(found) or time.monotonic() > until:
            return [(row.at - since).total_seconds() if row else math.inf for row in found]
        time.sleep(0.05)


def _first_begin(system: System, saga_id: object, step: str) -> Effect | None:
    begun = system.effects.find("begin", saga_id=saga_id, step=step)
    return begun[0] if begun else None


def _next_begin(system: System, row: Effect) -> Effect | None:
    later = [begin for begin in system.effects.find("begin", saga_id=row.saga_id, step=row.step) if begin.id > row.id]
    return later[0] if later else None


def _child(system: System) -> list[float]:
    """Three children of six, one after another."""
    times: list[float] = []
    with system.effects.held_lock(HELD):
        for row in _hold(system, 3):
            killed = datetime.now(UTC)
            system.processes.kill(row.pid)
            times += _again(system, [row], killed)
    _let_go(system)
    return times


def _of_one_worker(system: System, held: list[Effect]) -> tuple[Process, list[Effect]]:
    claims = system.query("SELECT saga_id, claimed_by FROM saga_steps WHERE lease_until IS NOT NULL")
    node = {str(claim["saga_id"]): claim["claimed_by"] for claim in claims}
    by_worker = [
        (worker, [row for row in held if node.get(str(row.saga_id)) == worker.nodename])
        for worker in system.step_workers
    ]
    return max(by_worker, key=lambda one: len(one[1]))


def _worker(system: System) -> list[float]:
    """The only worker that runs, so that its steps wait for its own restart."""
    spare = system.step_workers[1]
    if spare.running():
        system.down.add(spare.name)
        spare.stop()
    with system.effects.held_lock(HELD):
        victim, rows = _of_one_worker(system, _hold(system, 3))
        victim.kill_all()
        started = datetime.now(UTC)
        Process.restart(victim)
        times = _again(system, rows, started)
        STARTING.append(_ready_after(victim, started))
    _let_go(system)
    return times


def _ready_after(worker: Process, started: datetime) -> float:
    """Seconds from its start until the worker consumes: what the machine takes, whatever the engine does."""
    line = next(line for line in worker.log(since_start=True).splitlines() if " ready." in line)
    ready = datetime.strptime(line[1:24], "%Y-%m-%d %H:%M:%S,%f").astimezone()
    return (ready - started).total_seconds()


def _machine(system: System) -> list[float]:
    """One of two; it is started again when all is measured, for the next round."""
    with system.effects.held_lock(HELD):
        victim, rows = _of_one_worker(system, _hold(system, 3))
        killed = datetime.now(UTC)
        victim.kill_all()
        times = _again(system, rows, killed)
    _let_go(system)
    victim.restart()
    return times


def _flush(system: System) -> list[float]:
    """Every slot is busy, ten sagas wait in the broker; it is flushed, then the slots are free."""
    with system.effects.held_lock(HELD):
        _hold(system, 6)
        handles = [system.client.start("scenario", plan()) for _ in range(10)]
        flushed = datetime.now(UTC)
        system.servers.broker.flush()
    times = _until_each([partial(_first_begin, system, handle.saga_id, "one") for handle in handles], flushed)
    _let_go(system)
    return times


def _postgres(system: System) -> list[float]:
    """Six sagas are in their second step while it is away; what they did is recorded, and they go on."""
    with system.effects.held_lock(HELD):
        rows = _hold(system, 6)
        system.servers.postgres.stop()
        system.servers.postgres.start()
        back = datetime.now(UTC)
    times = _until_each([partial(_first_begin, system, row.saga_id, "three") for row in rows], back)
    _let_go(system)
    return times


def _let_go(system: System) -> None:
    """Until every saga has ended."""
    until = time.monotonic() + 60
    while time.monotonic() < until:
        rows = system.ask("SELECT count(*) AS n FROM saga_instances WHERE completed_at IS NULL")
        if rows and rows[0]["n"] == 0:
            return
        time.sleep(0.1)
