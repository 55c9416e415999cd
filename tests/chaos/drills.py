"""Directed attacks, each on a fresh system and judged by the oracle: what the proof plants its defects under.

A drill passes on the engine as it is; each planted defect makes one of them fail.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from statistics import median
from unittest.mock import patch

from sagas.runtime import packs
from tests.chaos.collect import collect
from tests.chaos.disruptions import Disruptor
from tests.chaos.facts import Run
from tests.chaos.oracle import Violation, judge
from tests.chaos.plan import SagaPlan
from tests.chaos.run import Starter, hint_at_what_has_ended, settle, until_idle
from tests.chaos.system import System
from tests.harness.celery_nodes import WorkerProcess
from tests.harness.effects import Effect

ALLOWED = 45.0
"""Seconds for the sagas of a drill to end."""


@dataclass
class Drill:
    """One drill at work."""

    system: System
    run: Run = field(default_factory=Run)
    plans: list[SagaPlan] = field(default_factory=list)
    seen: list[Violation] = field(default_factory=list)
    """What the drill itself saw, beside the oracle."""

    def __post_init__(self) -> None:
        self.starter = Starter(self.system, self.run)
        self.disruptor = Disruptor(self.system)

    def start(self, kind: str = "scenario", *ways: str, kid: dict[str, str] | None = None, **actions: str) -> SagaPlan:
        """One saga with that plan; `kid` is the plan of its child."""
        plan = SagaPlan(f"drill-{len(self.plans)}", kind, actions, ways or ("client",), kid=kid)
        self.plans.append(plan)
        self.starter(plan)
        return plan

    def pack(self, *actions: dict[str, str]) -> None:
        """One saga for each of them, all brought by one message."""
        first = len(self.plans)
        self.plans += [SagaPlan(f"drill-{first + number}", "scenario", one) for number, one in enumerate(actions)]
        self.starter.together(self.plans[first:])

    def owner(self, row: Effect) -> WorkerProcess:
        """The worker whose child wrote this row."""
        return next(worker for worker in self.system.step_workers if row.pid in worker.child_pids())

    def complain(self, rule: str, text: str) -> None:
        self.seen.append(Violation(rule, "-", text))

    def judge(self) -> list[Violation]:
        """Wait for the ends, hint at what has ended, shut down warmly, and ask the oracle."""
        if until_idle(self.system, self.starter.wait, ALLOWED):
            hint_at_what_has_ended(self.system, self.disruptor)
        for process in [w for w in self.system.step_workers if w.name in self.system.paused]:
            process.resume()
        settle(self.system)
        return [*self.seen, *judge(collect(self.system, self.run, self.plans), self.run)]


def starts(drill: Drill) -> None:
    """Sagas started in every way; a client that waited has a row, and what SQL started runs."""
    for way in ("broker", "sql", "client"):
        drill.start("scenario", way)
        drill.start("scenario", way, "message", three="fail")
    drill.start("scenario", "sql", two="flaky")


def losses(drill: Drill) -> None:
    """Steps die, fail and time out in the middle of sagas of every kind."""
    drill.start("scenario", one="die", four="fail")
    drill.start("scenario", three="die:9")
    drill.start("scenario_once", two="die", four="fail", undo_three="flaky")
    drill.start("scenario_blind", two="die")
    drill.start("scenario_careful", two="half")
    drill.start("scenario_brief", two="stall:9")
    drill.start("scenario_pivot", three="flaky")


def flushed(drill: Drill) -> None:
    """The broker forgets everything, twice, while messages wait."""
    for _ in range(8):
        drill.start("scenario", two="slow:0.5", three="flaky")
    drill.starter.answers()
    for _ in range(4):
        drill.system.tend(0.6)
        drill.system.servers.broker.flush()


def packed(drill: Drill) -> None:
    """A message's process dies at the first, second, third and fourth of the sagas that it brings."""
    for number in range(4):
        plans: list[dict[str, str]] = [{}, {}, {"two": "slow:0.3"}, {}, {"four": "fail"}, {}]
        plans[number] = {"two": "die"}
        drill.pack(*plans)
    drill.starter.answers()


def abreast(drill: Drill) -> None:
    """Sagas go side by side: their process dies in one of them; one of them takes long, which holds up nobody."""
    for number in range(1, 4):
        plans: list[dict[str, str]] = [{}, {}, {}, {"four": "fail"}, {}]
        plans[number] = {"two": "die"}
        drill.pack(*plans)
    drill.starter.answers()
    until_idle(drill.system, allowed=ALLOWED)
    drill.pack({}, {}, {"two": "slow:12"}, {}, {})
    drill.starter.answers()
    until = time.monotonic() + 10
    while (left := _not_ended(drill)) > 1 and time.monotonic() < until:
        drill.system.tend(0.2)
    if left != 1:
        drill.complain("p13_one_that_takes_long_holds_up_nobody", f"{left} sagas are under way beside a long step")


def _not_ended(drill: Drill) -> int:
    under_way = "SELECT count(*) FROM saga_instances WHERE state IN ('PENDING', 'IN_PROGRESS')"
    return int(drill.system.query.value(under_way))


def quick(drill: Drill) -> None:
    """On an idle system a started saga runs at once: messages are the fast path."""
    waits = []
    for _ in range(7):
        plan = drill.start("scenario", "broker")
        drill.starter.answers()
        (saga_id,) = drill.run.acknowledged[plan.key]
        begin = drill.system.effects.wait("begin", 1, 30, saga_id=saga_id, step="one")[0]
        started = drill.system.query.value("SELECT started_at FROM saga_instances WHERE saga_id = %s", saga_id)
        waits.append((begin.at - started).total_seconds())
        until_idle(drill.system, allowed=30)
    if median(waits) > 1.9:
        drill.complain("p2_messages_are_the_fast_path", f"first steps began after {[round(w, 2) for w in waits]} s")


def silent_worker(drill: Drill) -> None:
    """A worker stands still, its step is run again elsewhere, then it comes back first and reports late."""
    for action in ("gate:late", "lock:late"):
        with drill.system.effects.held_lock("late"):
            first = _begun(drill, 1, drill.start("scenario", two=action))
            slow = drill.owner(first)
            slow.pause()
            second = _begun(drill, 2, drill.plans[-1])
            quick = drill.owner(second)
            quick.pause()
            slow.resume()
            time.sleep(0.5)
        drill.system.effects.wait("effect", 1, 15, saga_id=first.saga_id, step="two")
        time.sleep(1.0)
        quick.resume()
        until_idle(drill.system, allowed=ALLOWED)


def _begun(drill: Drill, count: int, plan: SagaPlan) -> Effect:
    """The begin of that attempt of its second step, seen blocked."""
    drill.starter.answers()
    (saga_id,) = drill.run.acknowledged[plan.key]
    row = drill.system.effects.wait("begin", count, 40, saga_id=saga_id, step="two")[count - 1]
    drill.system.effects.wait_until_blocked("late", count, 15)
    return row


def hung_worker(drill: Drill) -> None:
    """A worker stands still for good with a step that may not be run again: its lease ends that."""
    with drill.system.effects.held_lock("late"):
        plan = drill.start("scenario_brief", three="gate:late")
        drill.starter.answers()
        (saga_id,) = drill.run.acknowledged[plan.key]
        row = drill.system.effects.wait("begin", 1, 40, saga_id=saga_id, step="three")[0]
        drill.system.effects.wait("effect", 1, 15, saga_id=saga_id, step="three")
        worker = drill.owner(row)
        worker.pause()
        drill.system.paused.add(worker.name)
        if not until_idle(drill.system, allowed=ALLOWED):
            drill.complain("p14_terminal_in_time", "a saga waits for a worker that stands still")


def doubled(drill: Drill) -> None:
    """Every message of every saga, again and again while they run; they leave processes free to take them."""
    for _ in range(drill.system.concurrency):
        drill.start("scenario", one="slow:0.6", two="slow:0.6", three="slow:0.6")
    drill.starter.answers()
    for _ in range(6):
        for row in drill.system.query("SELECT saga_id::text, saga_type FROM saga_instances"):
            drill.disruptor.stray(row)
        drill.system.tend(0.5)


def cancelled_in_a_step(drill: Drill) -> None:
    """A cancel while a step runs: its undo waits for it."""
    with drill.system.effects.held_lock("late"):
        first = _begun(drill, 1, drill.start("scenario", two="lock:late"))
        drill.run.cancelled.add(str(first.saga_id))
        drill.system.client.handle(str(first.saga_id)).cancel("drill", "drill")
        until = time.monotonic() + 6
        while time.monotonic() < until and not drill.system.effects.count("undo", saga_id=first.saga_id):
            drill.system.tend(0.2)


def families(drill: Drill) -> None:
    """Parents that go back after their child's end, and one that is cancelled in the middle of it."""
    for _ in range(2):
        drill.start("chaos_family", kid={"undo_two": "slow:0.8"}, four="fail")
    with drill.system.effects.held_lock("kid"):
        first = drill.start("chaos_family", kid={"two": "lock:kid"})
        drill.starter.answers()
        drill.system.effects.wait_until_blocked("kid", timeout=20)
        (saga_id,) = drill.run.acknowledged[first.key]
        drill.run.cancelled.add(saga_id)
        drill.system.client.handle(saga_id).cancel("drill", "drill")
        drill.system.tend(4)


def one_key(drill: Drill) -> None:
    """One key, started by twelve callers at one instant."""
    for _ in range(3):
        drill.start("scenario", *["client", "sql", "broker", "message"] * 3)


def backlog(drill: Drill) -> None:
    """No step worker for a while: the messages in the queue do not grow."""
    with ExitStack() as stack:
        for worker in drill.system.step_workers:
            drill.system.down.add(worker.name)
            worker.stop()
            stack.callback(WorkerProcess.restart, worker)
        for _ in range(18):
            drill.start("scenario")
        for _ in range(2):
            drill.pack(*[{}] * 10)
        drill.starter.answers()
        drill.system.tend(12)
        with drill.system.servers.broker.client() as client:
            depth = client.llen("steps")
    drill.system.down.clear()
    if depth != 20:
        drill.complain("p13_a_backlog_is_no_failure", f"{depth} messages for 38 waiting sagas, of which two bring 20")


DRILLS: dict[str, Callable[[Drill], None]] = {
    act.__name__: act
    for act in (
        starts,
        losses,
        flushed,
        packed,
        abreast,
        quick,
        silent_worker,
        hung_worker,
        doubled,
        cancelled_in_a_step,
        families,
        one_key,
        backlog,
    )
}


def perform(name: str, system: System) -> list[Violation]:
    """Do one drill on a started system; its violations."""
    drill = Drill(system)
    try:
        with patch.object(packs, "SPREAD", 1):
            DRILLS[name](drill)
    except AssertionError as error:  # what it waited for did not come
        drill.complain("drill", str(error)[:500])
    return drill.judge()


def rules(violations: list[Violation]) -> Iterator[str]:
    """The names of what was broken, each once."""
    yield from dict.fromkeys(violation.rule for violation in violations)
