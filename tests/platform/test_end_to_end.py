"""A job from its submission to its result, on real servers, workers and agents."""

import os
from collections.abc import Callable

import psutil
import pytest

from sagas.jobs.types import JobCommand, JobId
from tasks.messages import submit_job
from tests.harness.wait import wait_for

pytestmark = pytest.mark.slow
LONG = 40.0


@pytest.fixture
def celery_environment(database_url: str, broker_url: str) -> dict[str, str]:
    return {"HODEI_DATABASE_URL": database_url, "HODEI_BROKER_URL": broker_url, "HODEI_WORKER_BEAT": "0.5"}


@pytest.fixture
def system(platform, start_worker, start_beat) -> None:
    """A plain `celery -A tasks worker` and `celery -A tasks beat`: a complete system."""
    start_worker("tasks", concurrency=3)
    start_beat("tasks")


@pytest.fixture
def run(platform, query) -> Callable[..., dict]:
    """Submit a command and wait for the end of its job: its row."""

    def submit_and_wait(*argv: str, **options) -> dict:
        return finished(query, submit_job(platform, JobCommand(argv, **options)))

    return submit_and_wait


def finished(query, job_id: JobId, timeout: float = LONG) -> dict:
    def ended() -> dict | None:
        (row,) = query("SELECT * FROM jobs WHERE job_id = %s", str(job_id))
        return row if row["finished_at"] else None

    def story() -> str:
        events = query("SELECT stream, event_type, step_name, payload FROM saga_events ORDER BY event_id")
        return "\n".join(str(dict(event)) for event in events)

    row = wait_for(ended, timeout, story)
    assert row is not None
    return row


def agents(query) -> list[psutil.Process]:
    """The living agents of this test's workers, from the process table."""
    workers = {str(row["worker_id"]) for row in query("SELECT worker_id FROM workers")}
    found = []
    for process in psutil.process_iter():
        try:
            env = process.environ()
            if env.get("HODEI_WORKER_ID") in workers and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except (psutil.Error, OSError):
            continue
    return found


def test_a_job_runs_on_a_worker_that_was_made_for_it(system, run, query) -> None:
    """L1: asserted on rows and processes. The job's exit code is its own; its worker is alive and READY after it."""
    row = run("sh", "-c", "echo hi; echo oops >&2; exit 3")
    assert (row["state"], row["exit_code"], row["attempts"]) == ("FAILED", 3, 1)
    wait_for(lambda: query.value("SELECT count(*) FROM job_logs") == row["log_lines"] == 2)
    output = query("SELECT stream, content FROM job_logs ORDER BY stream")
    assert [(o["stream"], o["content"]) for o in output] == [("stderr", "oops\n"), ("stdout", "hi\n")]
    (worker,) = query("SELECT * FROM workers")
    assert (worker["state"], worker["worker_id"]) == ("READY", row["worker_id"])
    (agent,) = agents(query)
    assert worker["reference"] == str(agent.pid) and os.getsid(agent.pid) == agent.pid
    wait_for(lambda: query.value("SELECT count(*) FROM saga_instances WHERE state = 'COMPLETED'") == 2)
    assert {r["saga_type"] for r in query("SELECT saga_type FROM saga_instances")} == {"provisioning", "execution"}
    job_events = [
        e["event_type"]
        for e in query("SELECT event_type FROM saga_events WHERE stream = %s ORDER BY 1", f"job:{row['job_id']}")
    ]
    expected = ["JobAccepted", "JobAssigned", "JobFinished", "JobStatusChanged", "JobSubmitted", "WorkerRequested"]
    assert job_events == expected
    # The next job finds the worker: no other one is made.
    second = run("sh", "-c", "cat; echo $GREETING $PWD", stdin="in\n", env={"GREETING": "salut"}, cwd="/")
    assert (second["state"], second["worker_id"]) == ("SUCCEEDED", row["worker_id"])
    wait_for(lambda: query.value("SELECT count(*) FROM job_logs WHERE job_id = %s", second["job_id"]) == 2)
    told = query("SELECT content FROM job_logs WHERE job_id = %s ORDER BY line_number", second["job_id"])
    assert [t["content"] for t in told] == ["in\n", "salut /\n"]
    assert query.value("SELECT count(*) FROM workers") == 1


def test_a_job_that_takes_too_long_is_stopped(system, run) -> None:
    row = run("sleep", "60", timeout=1.0)
    assert (row["state"], row["exit_code"], row["error"]) == ("TIMED_OUT", 143, "time limit of 1 s exceeded")
