"""The directed part of a run: every commit point of the engine is hit, each by a process that dies there."""

from collections.abc import Callable
from unittest.mock import patch

from sagas.runtime import packs
from tests.chaos import gaps
from tests.chaos.disruptions import Disruptor
from tests.chaos.facts import Run
from tests.chaos.plan import ABREAST, Plan, SagaPlan
from tests.chaos.run import Outcome, Starter, settle, summary, until_idle
from tests.chaos.system import Servers, System, running

WAVES = 6
PACK = 6
"""Sagas of a message that are quick, so that they go side by side."""
BACKLOG = 5.5
"""Seconds without a step worker: reconcile finds messages waiting, and no node is silent enough to be dead."""
CASES: tuple[tuple[str, dict[str, str]], ...] = (
    ("scenario", {}),
    ("scenario", {"two": "slow:0.5"}),
    ("scenario", {"two": "flaky"}),
    ("scenario", {"three": "fail"}),
    ("scenario", {"three": "notready"}),
    ("scenario", {"two": "cancel"}),
    ("scenario", {"two": "junk"}),
    ("scenario", {"three": "fail", "undo_two": "flaky", "undo_one": "notready"}),
    ("scenario_brief", {"two": "stall"}),
    ("scenario_once", {"two": "die"}),
    ("scenario_once", {"two": "raise"}),
    ("scenario_once", {"two": "raise", "verify_two": "unknown"}),
    ("scenario_pivot", {"three": "flaky"}),
    ("chaos_prepared", {}),
)


def run_gaps(shared: Servers, say: Callable[[str], None] = lambda _: None) -> tuple[Outcome, list[str]]:
    """The outcome, and the points that nobody came by (none, if all is well)."""
    plan = Plan(0, [], [])
    run = Run()
    env = {"CHAOS_PATCH": "tests.chaos.gaps", "HODEI_CONTINUATION_MS": ABREAST}
    with running(shared, env=env, prepare=_arm) as system, patch.object(packs, "SPREAD", 1):
        disruptor, starter = Disruptor(system), Starter(system, run)
        for wave in range(WAVES):
            _wave(system, starter, plan, wave)
            missing = _missing(system)
            say(f"  gaps: wave {wave + 1}, {len(gaps.POINTS) - len(missing)} of {len(gaps.POINTS)} points hit")
            if not missing:
                break
        starter.wait()
        settle(system)
        run.killed = {row["pid"] for row in system.effects.query("SELECT pid FROM chaos_gaps WHERE pid IS NOT NULL")}
        return summary(system, disruptor, run, plan), missing


def _arm(system: System) -> None:
    query = system.effects.query
    query(gaps.TABLE)
    query("TRUNCATE chaos_gaps")
    query("INSERT INTO chaos_gaps (point) SELECT unnest(%s)", list(gaps.POINTS))


def _missing(system: System) -> list[str]:
    rows = system.effects.query("SELECT point FROM chaos_gaps WHERE hit_at IS NULL ORDER BY point")
    return [row["point"] for row in rows]


def _wave(system: System, starter: Starter, plan: Plan, wave: int) -> None:
    """All cases once, one cancelled through the broker; first they wait, then the broker is flushed while they run."""
    for worker in system.step_workers:
        system.pause(worker, BACKLOG)
    sagas = [SagaPlan(f"gap{wave}-{i}", kind, actions, ("broker",)) for i, (kind, actions) in enumerate(CASES)]
    sagas.append(SagaPlan(f"gap{wave}-cancel", "scenario", {"two": "slow:3"}, ("broker",), 0.3))
    plan.sagas.extend(sagas)
    for saga in sagas:
        starter(saga)
    quick = [SagaPlan(f"gap{wave}-pack{i}", "scenario") for i in range(PACK)]
    plan.sagas.extend(quick)
    starter.together(quick)
    system.tend(BACKLOG + 1.5)
    system.servers.broker.flush()
    starter.answers()
    until_idle(system)
