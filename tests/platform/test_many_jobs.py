"""Many jobs on four workers while agents, Celery workers and beat are killed at random, by a seed (issue 4)."""

import os
import random
import time
from collections.abc import Callable
from typing import Any

import psutil
import pytest

from sagas.jobs.types import JobCommand
from tasks.messages import submit_job
from tests.harness.processes import Process
from tests.harness.wait import wait_for
from tests.platform.world import agents

JOBS = int(os.environ.get("HODEI_MANY_JOBS", "12"))
"""200 for the acceptance of the whole platform; a few in every run of the tests."""
SEED = int(os.environ.get("HODEI_MANY_JOBS_SEED", "1"))
PATIENCE = 120 + 4 * JOBS
ENV = {"HODEI_WORKER_DEAD": "4", "HODEI_WORKER_IDLE": "3", "HODEI_PROVIDER_CAPACITY": "4"}

pytestmark = [pytest.mark.slow, pytest.mark.timeout(60 + 2 * PATIENCE)]


class Killer:
    """One kill after another, until it is told that all is done; what it killed of ours is started again."""

    def __init__(self, query: Any, workers: list[Process], beat: Process) -> None:
        self._query = query
        self._dice = random.Random(SEED)
        self._workers = workers
        self._beat = beat
        self.kills: dict[str, int] = {"agent": 0, "child": 0, "worker": 0, "beat": 0}

    def until(self, done: Callable[[], bool], timeout: float) -> None:
        until = time.monotonic() + timeout
        while not done():
            assert time.monotonic() < until, self._story()
            self._kill(self._dice.choices(list(self.kills), [6, 3, 2, 1])[0])
            for _ in range(self._dice.randrange(20, 60)):
                time.sleep(0.1)
                if done():
                    return

    def _kill(self, kind: str) -> None:
        if kind == "agent":
            living = [process for process in agents(self._query) if "agent" in " ".join(_words(process))]
            if not living:
                return
            self._dice.choice(living).kill()
        elif kind == "child":
            children = [pid for worker in self._workers for pid in worker.child_pids()]
            if not children:
                return
            psutil.Process(self._dice.choice(children)).kill()
        elif kind == "worker":
            worker = self._dice.choice(self._workers)
            worker.kill_all()
            worker.restart()
        else:
            self._beat.kill()
            self._beat.restart()
        self.kills[kind] += 1

    def _story(self) -> str:
        jobs = self._query("SELECT * FROM jobs WHERE finished_at IS NULL LIMIT 3")
        columns = "saga_type, state, current_step, wake_at, error"
        sagas = self._query(f"SELECT {columns} FROM saga_instances WHERE completed_at IS NULL LIMIT 9")
        return f"kills {self.kills}\n" + "\n".join(map(str, [*jobs, *sagas]))


def _words(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:
        return []


def test_every_job_ends_once_and_nothing_is_left(platform, start_worker, start_beat, query, tmp_path) -> None:
    """L13, L31, L32, L36: one terminal result for each job; no process, no row of a worker left behind."""
    workers = [
        start_worker("tasks", concurrency=3, name="steps", env=ENV),
        start_worker("tasks", queues=["control", "compensations", "logs", "events"], name="control", env=ENV),
    ]
    beat = start_beat("tasks", env=ENV)
    marks = tmp_path / "marks"
    marks.mkdir()
    jobs = [
        submit_job(
            platform,
            JobCommand(("sh", "-c", f"echo run >> {marks}/{number}; sleep 1; echo {number}")),
            max_attempts=50,
        )
        for number in range(JOBS)
    ]
    killer = Killer(query, workers, beat)
    killer.until(lambda: query.value("SELECT count(*) FROM jobs WHERE finished_at IS NULL") == 0, PATIENCE)

    assert query("SELECT state, count(*)::int AS n FROM jobs GROUP BY 1") == [{"state": "SUCCEEDED", "n": JOBS}]
    counted = "SELECT job_id, count(*) FROM job_results WHERE counted GROUP BY 1 HAVING count(*) <> 1"
    assert query(counted) == []
    assert query.value("SELECT count(*) FROM job_results WHERE counted") == JOBS
    finished = "SELECT stream FROM saga_events WHERE event_type = 'JobFinished' GROUP BY 1 HAVING count(*) <> 1"
    assert query(finished) == []
    # At least once: a job that was moved began on each of its workers, and no more often than it has attempts.
    for number, job_id in enumerate(jobs):
        begun = len((marks / str(number)).read_text().splitlines())
        assert 1 <= begun <= query.value("SELECT attempts FROM jobs WHERE job_id = %s", str(job_id))

    # Idle workers are ended; what the kills have left is swept.
    wait_for(
        lambda: query.value("SELECT count(*) FROM workers WHERE state <> 'TERMINATED'") == 0,
        PATIENCE,
        lambda: str(query("SELECT worker_id, state, owner_saga_id, wake_at FROM workers WHERE state <> 'TERMINATED'")),
    )
    wait_for(lambda: not agents(query), 30, lambda: str(agents(query)))
    assert not platform.lifecycle.has_orphaned_workers()
    open_sagas = "SELECT saga_type, state, error FROM saga_instances WHERE completed_at IS NULL OR state = 'FAILED'"
    wait_for(lambda: query(open_sagas) == [], 30, lambda: str(query(open_sagas)))
    print(f"{JOBS} jobs, kills {killer.kills}, {query.value('SELECT count(*) FROM workers')} workers")
