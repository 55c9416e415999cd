"""One run of one seed: start the sagas of the plan between its disruptions, wait for all ends, judge."""

import re
import shutil
import signal
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeVar
from unittest.mock import patch

import psycopg2
import redis
from celery import Celery
from kombu.exceptions import OperationalError

from sagas import HodeiError, SagaClient
from sagas.jsontext import to_json
from sagas.runtime import packs
from tests.chaos.collect import collect
from tests.chaos.disruptions import Disruptor, Done
from tests.chaos.facts import TERMINAL, Run
from tests.chaos.oracle import Violation, judge
from tests.chaos.plan import Plan, SagaPlan
from tests.chaos.system import Servers, System, running
from tests.harness.wait import wait_for

T = TypeVar("T")

TIME_ALLOWED = 240.0
"""Seconds from the last disruption to the last end: a few leases (30 s) one after another, on a busy machine."""
LAST_WORK = 120.0
"""Seconds for a warm shutdown: an attempt's own limit (20 s), what Celery waits for a lost child's result (10 s), and
what a child waits for an answer if its parent forgot its job just as it began (30 s, billiard's
`_ensure_messages_consumed`; seen under load)."""
STUBBORN = 120.0
"""Seconds for which a caller asks again, with the same key, while servers are away."""


@dataclass
class Outcome:
    """What one seed gave."""

    seed: int
    states: Counter[str] = field(default_factory=Counter)
    effects: Counter[str] = field(default_factory=Counter)
    events: Counter[str] = field(default_factory=Counter)
    done: list[Done] = field(default_factory=list)
    violations: list[Violation] = field(default_factory=list)
    restarts: int = 0
    seconds: float = 0.0


class Starter:
    """Starts and cancels sagas from threads, as callers do that do not give up."""

    def __init__(self, system: System, run: Run) -> None:
        self.system = system
        self.run = run
        self.app = Celery("caller", broker=system.servers.broker.url, set_as_current=False)
        self.pool = ThreadPoolExecutor(8)
        self.futures: list[Future[None]] = []

    def __call__(self, plan: SagaPlan) -> None:
        """Start it, in all the ways of its plan at once."""
        ids = self.run.acknowledged.setdefault(plan.key, set())
        for way in plan.starts:
            self.futures.append(self.pool.submit(self._start, way, plan, ids))
        if plan.cancel_after is not None:
            self.futures.append(self.pool.submit(self._cancel, plan, ids))

    def together(self, plans: list[SagaPlan]) -> None:
        """The same for each of them; those that a client starts, all of a kind by one call and in few messages."""
        kinds: dict[str, list[SagaPlan]] = {}
        for plan in plans:
            packed = plan.starts[0] == "client"
            if packed:
                kinds.setdefault(plan.kind, []).append(plan)
            self(replace(plan, starts=plan.starts[1:]) if packed else plan)
        for kind, many in kinds.items():
            self.futures.append(self.pool.submit(self._start_many, kind, many))

    def _start_many(self, kind: str, plans: list[SagaPlan]) -> None:
        payloads, keys = [plan.payload for plan in plans], [plan.key for plan in plans]

        def start() -> list[str]:
            handles = self.system.client.start_many(kind, payloads, idempotency_keys=keys)
            return [str(handle.saga_id) for handle in handles]

        for plan, saga_id in zip(plans, _stubbornly(start), strict=True):
            self.run.acknowledged[plan.key].add(saga_id)

    def answers(self) -> None:
        """Until every caller has its answer, with the system tended; its exception if one did not get any."""
        while not all(future.done() for future in self.futures):
            self.system.tend(0.1)
        for future in self.futures:
            future.result()

    def wait(self) -> None:
        """The same, at the end."""
        self.answers()
        self.pool.shutdown()

    def _start(self, way: str, plan: SagaPlan, ids: set[str]) -> None:
        if way == "message":
            kwargs = {"saga_type": plan.kind, "payload": plan.payload, "idempotency_key": plan.key}
            with suppress(OperationalError):
                self.app.send_task("sagas.start", kwargs=kwargs, queue="control", ignore_result=True, retry=False)
            return
        ways = {"client": self._by_client, "sql": self._by_sql, "broker": self._by_broker}
        by = ways[way]
        ids.add(_stubbornly(lambda: by(plan)))

    def _by_client(self, plan: SagaPlan) -> str:
        key, instead = (plan.key, None) if plan.keyed else (None, plan.key)
        start = self.system.client.start
        return str(start(plan.kind, plan.payload, idempotency_key=key, correlation_id=instead).saga_id)

    def _by_broker(self, plan: SagaPlan) -> str:
        return str(self.asker().start(plan.kind, plan.payload, idempotency_key=plan.key).saga_id)

    def asker(self) -> SagaClient:
        """A client without a database, of its own: its reply queue is read by one thread."""
        return SagaClient(self.system.servers.broker.url, timeout=5)

    def _by_sql(self, plan: SagaPlan) -> str:
        values = (plan.kind, to_json(plan.payload), plan.key)
        return str(self.system.query.value("SELECT start_saga(%s, %s, %s)::text", *values))

    def _cancel(self, plan: SagaPlan, ids: set[str]) -> None:
        until = time.monotonic() + STUBBORN
        while not ids and time.monotonic() < until:
            time.sleep(0.05)
        time.sleep(plan.cancel_after or 0)
        for saga_id in list(ids):
            self.run.cancelled.add(saga_id)
            client = self.asker() if plan.starts == ("broker",) else self.system.client
            handle = client.handle(saga_id)
            _stubbornly(lambda handle=handle: handle.cancel("chaos", "chaos"))  # type: ignore[misc]


def _stubbornly(ask: Callable[[], T]) -> T:
    until = time.monotonic() + STUBBORN
    while True:
        try:
            return ask()
        except (HodeiError, OperationalError, redis.RedisError, psycopg2.OperationalError, psycopg2.InterfaceError):
            if time.monotonic() > until:
                raise
        time.sleep(0.2)


def run_seed(
    shared: Servers,
    plan: Plan,
    concurrency: int = 3,
    say: Callable[[str], None] = lambda _: None,
    logs: Path | None = None,
) -> Outcome:
    """Do all of the plan on a fresh system; violations are in the outcome, and the processes' logs in `logs` then."""
    begun = time.monotonic()
    run = Run()
    with (
        running(shared, concurrency=concurrency, twice=plan.twice, env=plan.env) as system,
        patch.object(packs, "SPREAD", 1),  # a seed has few sagas
    ):
        disruptor, starter = Disruptor(system), Starter(system, run)
        batches = _batches(plan)
        for number, (sagas, disruption) in enumerate(zip(batches, [*plan.disruptions, None], strict=True)):
            if plan.packs:
                starter.together(sagas)
            else:
                for saga in sagas:
                    starter(saga)
            if disruption is not None:
                system.tend(disruption.after)
                done = disruptor(disruption)
                say(f"  {number + 1:3}/{len(plan.disruptions)} {done.kind} {done.detail}")
        until_idle(system, starter.wait)
        hint_at_what_has_ended(system, disruptor)
        settle(system)
        outcome = summary(system, disruptor, run, plan)
        if outcome.violations and logs is not None:
            shutil.copytree(system.processes.directory, logs / f"seed{plan.seed}", dirs_exist_ok=True)
    outcome.seconds = time.monotonic() - begun
    return outcome


def _batches(plan: Plan) -> list[list[SagaPlan]]:
    """The sagas in as many portions as there are disruptions, and one more."""
    count = len(plan.disruptions) + 1
    return [plan.sagas[i * len(plan.sagas) // count : (i + 1) * len(plan.sagas) // count] for i in range(count)]


def until_idle(system: System, callers: Callable[[], None] = lambda: None, allowed: float = TIME_ALLOWED) -> bool:
    """Wait until every saga has ended and nothing is left to be done later; false if the time is over."""
    while system.pending():
        system.tend(0.1)
    callers()
    until = time.monotonic() + allowed
    while time.monotonic() < until:
        system.tend(0.2)
        rows = system.ask("SELECT count(*) AS n FROM saga_instances WHERE state <> ALL (%s)", list(TERMINAL))
        if rows and rows[0]["n"] == 0:
            return True
    return False


def hint_at_what_has_ended(system: System, disruptor: Disruptor) -> None:
    """Every message that an ended saga can have, and a cancel: nothing may come of it (P9, P10)."""
    ended = "SELECT saga_id::text, saga_type FROM saga_instances WHERE completed_at IS NOT NULL"
    rows = system.ask(f"{ended} ORDER BY md5(saga_id::text) LIMIT 20")
    for row in rows or []:
        disruptor.stray(row)
        system.client.handle(row["saga_id"]).cancel("after the end", "chaos")
    until = time.monotonic() + 20
    with system.servers.broker.client() as client:
        while time.monotonic() < until and (client.llen("steps") or client.llen("compensations")):
            system.tend(0.1)


def settle(system: System) -> None:
    """A warm shutdown: whatever attempt still runs reports, late or not."""
    for worker in system.step_workers:
        if worker.running():
            worker.kill_main(signal.SIGTERM)

    def told() -> str:
        left = [worker for worker in system.step_workers if worker.running()]
        for worker in left:
            worker.kill_main(signal.SIGUSR1)  # Celery's: the stacks of its threads into its log
        time.sleep(1)
        return "\n".join(f"{worker.name}, children {worker.child_pids()}\n{worker.tail(100)}" for worker in left)

    wait_for(lambda: not any(worker.running() for worker in system.step_workers), LAST_WORK, told)


def _died(log: str) -> list[int]:
    """Pool children that died by a signal, as the worker's main process tells: Celery kills some by itself."""
    return [int(pid) for pid in re.findall(r"pid:(\d+) exited with '?signal", log)]


def summary(system: System, disruptor: Disruptor, run: Run, plan: Plan) -> Outcome:
    """Collect and judge."""
    run.crashes = [done.at for done in disruptor.done if done.kind == "postgres_crash"]
    run.killed |= {pid for done in disruptor.done for pid in done.pids}
    run.killed |= {process.pid for process in system.processes.strays()}
    run.killed |= {pid for process in system.processes.started for pid in _died(process.log())}
    cases = collect(system, run, plan.sagas)
    outcome = Outcome(plan.seed, done=disruptor.done, restarts=system.restarts)
    outcome.states.update(case.state for case in cases if not case.is_child)
    outcome.effects.update(row.kind for case in cases for row in case.log)
    outcome.events.update(event["event_type"] for case in cases for event in case.events)
    outcome.violations = judge(cases, run)
    return outcome
