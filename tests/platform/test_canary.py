"""Acceptance: a canary walk 1, 25, 75, 100 %. Each key always takes the same way; more discrepancies are seen."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Callable
from typing import Any

import pytest

from sagas import PermanentError, SagaType
from sagas.flags import share_of
from sagas.jobs.ports import CommandSender, WorkerProvider
from sagas.jobs.types import AssignmentId, JobCommand, JobId, WorkerId
from tasks import reports, shadow
from tasks.messages import submit_job
from tasks.paths import KNOWN_FOR, KnownFlags
from tasks.shadow_ports import ShadowSender
from tests.harness.wait import wait_for
from tests.platform.ports import FastAgents, TellingSender
from tests.platform.test_commands import Hodei, hodei
from tests.platform.world import LONG

__all__ = ["hodei"]  # a fixture

WALK = (1, 25, 75, 100)
JOBS = 40


class Failing(ShadowSender):
    """The shadow's sender; from some moment on the saga meets an error that the direct way does not."""

    broken = False

    def send_run_job(
        self, worker_id: WorkerId, assignment_id: AssignmentId, job_id: JobId, command: JobCommand
    ) -> None:
        if self.broken:
            raise PermanentError("the saga cannot do that")


@pytest.fixture
def failing() -> Failing:
    return Failing()


@pytest.fixture
def canary(make_platform, failing):
    """No worker runs: sagas are driven here. What it knows of flags it reads again each time."""
    sender = TellingSender(lambda *_: None)
    ports = {CommandSender: sender, WorkerProvider: FastAgents()}
    platform = make_platform(ports=ports, shadow={CommandSender: failing})
    platform.orchestrator._flags = KnownFlags(known_for=0)
    return platform


def named(*names: int) -> JobId:
    """The same in every run: how many of so few keys a percentage takes is no chance."""
    return JobId(uuid.uuid5(uuid.NAMESPACE_OID, str(names)))


def walk(platform: Any, percent: float) -> None:
    with platform.records() as records:
        records.flags.set(
            SagaType.EXECUTION, enabled=True, percent=percent, shadow=True, actor="canary", reason=f"{percent} %"
        )


def drive(platform: Any, query: Any) -> None:
    """All sagas to their end, and compare."""
    for row in query("SELECT saga_id FROM saga_instances WHERE completed_at IS NULL"):
        platform.engine.orchestrator.drive(row["saga_id"])
    shadow.compare(platform)


def ways(query: Any) -> dict[str, set[str]]:
    """Of each job the ways on which it was dispatched: its saga, or past it."""
    found: dict[str, set[str]] = {}
    for row in query("SELECT context -> 'payload' ->> 'job_id' AS job, shadow FROM saga_instances"):
        found.setdefault(row["job"], set()).add("past it" if row["shadow"] else "saga")
    return found


def end_all(platform: Any, query: Any) -> None:
    """Each job that runs fails, and is to be run again."""
    for job in query("SELECT job_id, worker_id, assignment_id FROM jobs WHERE state = 'ASSIGNED'"):
        reports.result(platform, {**job, "outcome": "failed", "exit_code": 1, "log_lines": 0})
    query("UPDATE jobs SET not_before = NULL")
    query("UPDATE workers SET last_seen_at = saga_now()")  # their agents live, however slow this machine is


def test_a_key_takes_one_way_in_all_its_rounds_and_a_higher_percentage_only_adds(
    canary, failing, rows, records, query
) -> None:
    provider_id = rows.provider(capacity=JOBS)
    for _ in range(JOBS):
        rows.ready_worker(provider_id)
    through: list[set[str]] = []
    for percent in WALK:
        walk(canary, percent)
        failing.broken = percent == WALK[2]
        jobs = {str(rows.job(job_id=named(percent, number), retry_failed=True)) for number in range(JOBS)}
        rounds = []
        for _ in range(2):
            assert len(canary.dispatcher.dispatch_once().executions) == JOBS
            drive(canary, query)
            end_all(canary, query)
            rounds.append({job: way for job, way in ways(query).items() if job in jobs})
        assert rounds[0] == rounds[1], "the next rounds of a job take its way"
        assert all(len(way) == 1 for way in rounds[1].values())
        took = {job for job, way in rounds[1].items() if way == {"saga"}}
        assert took == {job for job in jobs if share_of(SagaType.EXECUTION, job) < percent}
        through.append(took)
        query("UPDATE jobs SET state = 'CANCELLED', wake_at = NULL WHERE state = 'PENDING'")
    assert len(through[3]) == JOBS and len(through[2]) > len(through[1]) > len(through[0])
    with records() as r:
        totals = {total.percent: total for total in r.shadows.totals()}
    assert {percent: total.compared for percent, total in totals.items()} == {
        percent: 2 * (JOBS - len(took)) for percent, took in zip(WALK, through, strict=True) if percent < 100
    }
    assert [totals[percent].different for percent in WALK[:2]] == [0, 0]
    assert totals[75].different == totals[75].compared > 0, "what broke at this stage is seen at this stage"
    assert totals[75].kinds == {"outcome": totals[75].compared, "saga_error": totals[75].compared}
    assert query.value("SELECT count(*) FROM jobs WHERE attempts <> 2") == 0, "each job was dispatched twice, not more"


def test_a_key_that_has_gone_through_its_saga_goes_so_at_every_higher_percentage(canary, rows, query) -> None:
    """The same jobs, walked through all the stages."""
    provider_id = rows.provider(capacity=JOBS)
    for _ in range(JOBS):
        rows.ready_worker(provider_id)
    jobs = [str(rows.job(job_id=named(0, number), retry_failed=True, max_attempts=9)) for number in range(JOBS)]
    before: dict[str, set[str]] = {}
    for percent in WALK:
        walk(canary, percent)
        assert len(canary.dispatcher.dispatch_once().executions) == JOBS
        drive(canary, query)
        end_all(canary, query)
        after = ways(query)
        for job in jobs:
            if "saga" in before.get(job, set()):
                assert after[job] == before[job], "never back"
        before = after
    assert all("saga" in before[job] for job in jobs)


def test_flags_are_read_again_when_they_are_too_old(records) -> None:
    """A short cache, by the process's own clock."""
    now = [0.0]
    known = KnownFlags(clock=lambda: now[0])

    def enabled() -> bool:
        with records() as r:
            return known.current(r).execution_saga_enabled

    assert enabled()
    with records() as r:
        r.flags.set(SagaType.EXECUTION, enabled=False, actor="test", reason="")
    now[0] = KNOWN_FOR - 0.1
    assert enabled()
    now[0] = KNOWN_FOR
    assert not enabled()


@pytest.mark.slow
def test_a_flag_set_in_one_process_turns_the_way_in_the_others_within_seconds(
    system, hodei: Hodei, platform, query, run: Callable[..., Any]
) -> None:
    """Real processes: workers, beat and agents; the flag is set by the command. Both ways end the job."""
    assert run("true")["state"] == "SUCCEEDED"
    assert query.value("SELECT count(*) FROM saga_instances WHERE NOT shadow AND saga_type = 'execution'") == 1
    for saga in ("execution", "provisioning"):
        assert hodei("flags", "set", saga, "--disabled", "--shadow", "--reason", "walk").returncode == 0
    time.sleep(KNOWN_FOR + 1)
    # Two at once: one needs another worker, which is made past its saga.
    first, second = (submit_job(platform, JobCommand(("sleep", "2"))) for _ in range(2))

    def ended() -> bool:
        states = query("SELECT state FROM jobs WHERE job_id = ANY(%s::uuid[])", [str(first), str(second)])
        return [row["state"] for row in states] == ["SUCCEEDED"] * 2

    wait_for(ended, LONG)
    assert query.value("SELECT count(*) FROM saga_instances WHERE NOT shadow AND saga_type = 'execution'") == 1
    open_ones = "SELECT count(*) FROM shadow_comparisons WHERE compared_at IS NULL"
    wait_for(lambda: query.value(open_ones) == 0, LONG, lambda: str(query("SELECT * FROM shadow_comparisons")))
    told = json.loads(hodei("shadow", "report", "--json").stdout)
    assert told["differences"] == []
    assert {one["saga_type"] for one in told["totals"] if one["compared"]} == {"execution", "provisioning"}
    assert query.value("SELECT count(*) FROM workers WHERE state IN ('READY', 'BUSY')") == 2
    assert hodei("flags", "set", "execution", "--enabled", "--reason", "back").returncode == 0
    time.sleep(KNOWN_FOR + 1)
    assert run("true")["state"] == "SUCCEEDED"
    assert query.value("SELECT count(*) FROM saga_instances WHERE NOT shadow AND saga_type = 'execution'") == 2
