"""All of it: which contenders, in what order, how often; the figures as one JSON document."""

import os
import platform
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any

from benchmarks import measure
from benchmarks.contenders import CONTENDERS, DEFAULT
from benchmarks.servers import Servers
from benchmarks.simulation import simulate
from benchmarks.stand import Job, Options
from benchmarks.starts import starts
from benchmarks.upkeep import backlog, relay
from tests.chaos import recovery
from tests.chaos.system import servers as chaos_servers
from tests.harness.database import database_name
from tests.scale.history import fill

PARTS = ("counts", "throughput", "latency", "growth", "starts")
ON_DEMAND = ("history", "recovery", "simulation", "upkeep")
GROWING = ("ours", "ours_single", "ours_messages")
"""Whose growth with the number of steps is measured; a bare chain sends what is left with each step. Of `ours` only the
short sagas are so many that they go side by side."""


@dataclass(frozen=True)
class Plan:
    """What to run."""

    parts: Sequence[str] = PARTS
    contenders: Sequence[str] = DEFAULT
    rounds: int = 5
    sagas: int = 1000
    """Of a run for throughput: few are over before it is under way, 300 in 0.4 s on a fast machine."""
    latencies: int = 100
    pause: float = 0.1
    """Seconds between two of them. After less than 0.05 the bare chain's worker is not idle yet: the shorter the pause,
    the less one chain takes. Ours takes the same from 0.005 to 0.2.
    """
    counted: int = 50
    steps: Sequence[int] = (4, 64, 256, 1000)
    growth_steps: int = 4000
    """Steps in all, at each size."""
    history: int = 1_000_000
    """Finished sagas stored beforehand."""
    observations: int = 60
    """Of each kind of recovery."""
    backlogs: Sequence[int] = (1_000, 10_000, 100_000)
    """Sagas that wait, for reconcile."""


class Session:
    """Runs a plan; `figures` holds what there is so far."""

    def __init__(self, servers: Servers, options: Options, plan: Plan, say: Callable[[str], None]) -> None:
        self.servers = servers
        self.options = options
        self.plan = plan
        self.say = say
        self.figures: dict[str, Any] = {"machine": machine(servers), "options": _options(options, plan)}

    def run(self) -> None:
        """Everything, the counts first: they need no quiet machine and show what is wrong."""
        for part in (*PARTS, *ON_DEMAND):
            if part in self.plan.parts:
                self.figures[part] = {}
                getattr(self, f"_{part}")()
        self.figures["machine"]["load_after"] = os.getloadavg()

    def _counts(self) -> None:
        for name in self.plan.contenders:
            kind = CONTENDERS[name]
            figures = measure.count(self.servers, self.options, kind, Job(fails=kind.fails), self.plan.counted)
            self.figures["counts"][name] = figures
            self.say(f"counts {name}: {sum(figures['round_trips'].values()):.2f} round trips a saga")

    def _throughput(self) -> None:
        for number, name in self._alternating(self.plan.contenders):
            kind = CONTENDERS[name]
            job = Job(fails=kind.fails)
            figures = measure.throughput(self.servers, self.options, kind, job, self.plan.sagas, settle=number == 1)
            self._add("throughput", name, figures)
            self.say(f"throughput {number} {name}: {figures['rate']:.0f} sagas/s")

    def _latency(self) -> None:
        for number, name in self._alternating(self.plan.contenders):
            kind = CONTENDERS[name]
            job = Job(fails=kind.fails)
            figures = measure.latency(self.servers, self.options, kind, job, self.plan.latencies, self.plan.pause)
            self._add("latency", name, figures)
            self.say(f"latency {number} {name}: p50 {figures['p50']:.1f} ms, p95 {figures['p95']:.1f} ms")

    def _growth(self) -> None:
        names = [name for name in self.plan.contenders if name in GROWING]
        for number, name in self._alternating(names):
            for steps in self.plan.steps[:: 1 if number % 2 else -1]:
                job, sagas = Job(steps=steps), max(4, self.plan.growth_steps // steps)
                figures = measure.throughput(
                    self.servers, self.options, CONTENDERS[name], job, sagas, settle=False, warm_up=max(2, 160 // steps)
                )
                self.figures["growth"].setdefault(name, {}).setdefault(str(steps), []).append(figures)
                per_step = 1000 * figures["seconds"] / (sagas * steps)
                cpu = figures["cpu_ms_total"] / steps
                self.say(f"growth {number} {name} {steps} steps: {per_step:.3f} ms, {cpu:.3f} ms of CPU a step")

    def _starts(self) -> None:
        for number in range(1, self.plan.rounds + 1):
            figures = starts(self.servers, self.options, self.plan.sagas)
            self._add("starts", "start_many", figures)
            self.say(f"starts {number}: {figures['start_many']:.0f} by start_many, {figures['least']:.0f} at least")

    def _recovery(self) -> None:
        """On servers of its own, which it stops and flushes."""
        with chaos_servers() as shared:
            for times in recovery.measure(shared, self.plan.observations, self.say):
                self.figures["recovery"][times.kind] = times.seconds

    def _upkeep(self) -> None:
        for size in self.plan.backlogs:
            figures = backlog(self.servers, self.options, size)
            self.figures["upkeep"].setdefault("backlog", []).append(figures)
            self.say(f"upkeep {size} sagas wait: {figures['total']:.1f} % of a core")
        self.figures["upkeep"]["relay"] = relay(self.servers, self.options, self.plan.sagas, self.plan.rounds)
        self.say(f"upkeep relay: {self.figures['upkeep']['relay']['median']:.2f} ms of CPU an event")

    def _simulation(self) -> None:
        """With what this session's throughput has cost."""
        runs = self.figures.get("throughput", {}).get("ours")
        if not runs:
            raise RuntimeError("the simulation takes its costs from the throughput of ours: name that part, too")
        self.figures["simulation"] = simulate(sorted(runs, key=lambda run: run["cpu_ms_total"])[len(runs) // 2])

    def _history(self) -> None:
        """Two databases for all rounds, which differ in what they hold from before."""
        urls = {size: self.servers.databases.create("engine") for size in (0, self.plan.history)}
        connection = self.servers.postgres.connect(database_name(urls[self.plan.history]))
        try:
            fill(connection, self.plan.history)
        finally:
            connection.close()
        for number in range(1, self.plan.rounds + 1):
            for size in sorted(urls, reverse=number % 2 == 0):
                figures = measure.throughput(
                    self.servers,
                    self.options,
                    CONTENDERS["ours"],
                    Job(),
                    self.plan.sagas,
                    settle=False,
                    database_url=urls[size],
                )
                self._add("history", str(size), figures)
                self.say(f"history {number} {size} finished: {figures['rate']:.0f} sagas/s")

    def _alternating(self, names: Sequence[str]) -> list[tuple[int, str]]:
        """(round, contender); each round begins with the next one, so that none is always the first."""
        turns = []
        for number in range(1, self.plan.rounds + 1):
            first = (number - 1) % max(1, len(names))
            turns += [(number, name) for name in (*names[first:], *names[:first])]
        return turns

    def _add(self, part: str, name: str, figures: dict[str, Any]) -> None:
        self.figures[part].setdefault(name, []).append(figures)


def machine(servers: Servers) -> dict[str, Any]:
    """Where and with what the figures were made."""
    with open("/proc/cpuinfo") as file:
        models = [line.split(":", 1)[1].strip() for line in file if line.startswith("model name")]
    return {
        "when": datetime.now(UTC).isoformat(timespec="seconds"),
        "cores": os.cpu_count(),
        "cpu": models[0] if models else platform.machine(),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "celery": version("celery"),
        "kombu": version("kombu"),
        "load_before": os.getloadavg(),
        "servers": servers.settings(),
    }


def median_ratio(runs: Sequence[float], base: Sequence[float]) -> float:
    """The median of the ratios of the rounds that both have: an interrupted session ends in the middle of one."""
    return statistics.median(one / other for one, other in zip(runs, base, strict=False))


def _options(options: Options, plan: Plan) -> dict[str, Any]:
    return {
        "concurrency": options.concurrency,
        "prefetch": options.prefetch,
        "events": options.events,
        "rounds": plan.rounds,
        "sagas": plan.sagas,
    }
