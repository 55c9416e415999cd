"""A job from its submission to its result, on real servers, workers and agents."""

import os

import pytest

from sagas.jobs.types import JobCommand, JobId
from tasks.messages import submit_job
from tests.harness.wait import wait_for
from tests.platform.world import agents, finished

pytestmark = pytest.mark.slow


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
    pieces = "SELECT count(*) FROM job_logs WHERE job_id = %s"
    wait_for(lambda: query.value(pieces, second["job_id"]) == second["log_lines"])
    told = query("SELECT content FROM job_logs WHERE job_id = %s ORDER BY line_number", second["job_id"])
    assert "".join(t["content"] for t in told) == "in\nsalut /\n"
    assert query.value("SELECT count(*) FROM workers") == 1


def test_a_job_that_takes_too_long_is_stopped(system, run) -> None:
    row = run("sleep", "60", timeout=1.0)
    assert (row["state"], row["exit_code"], row["error"]) == ("TIMED_OUT", 143, "time limit of 1 s exceeded")


def test_a_command_that_is_not_there_is_told_as_a_shell_tells_it(system, run) -> None:
    row = run("no-such-program")
    assert (row["state"], row["exit_code"], row["error"]) == ("FAILED", 127, "command not found: no-such-program")


def test_a_message_that_comes_several_times_is_one_job_and_one_worker(system, platform, query) -> None:
    """L7, L9: every message delivered several times; count the creations: one. Submitted with a broker alone."""
    job_id = JobId.new()
    for _ in range(4):
        platform.app.send_task(
            "jobs.submit", kwargs={"command": {"argv": ["true"]}}, task_id=str(job_id), queue="control"
        )
        platform.app.send_task("jobs.dispatch", queue="control")
    wait_for(lambda: query("SELECT * FROM jobs"))
    row = finished(query, job_id)
    assert (row["state"], row["attempts"]) == ("SUCCEEDED", 1)
    assert query.value("SELECT count(*) FROM jobs") == query.value("SELECT count(*) FROM workers") == 1
    assert len(agents(query)) == 1


def test_without_any_hint_a_job_is_run_all_the_same(system, platform, query, monkeypatch) -> None:
    """L6: whoever submitted died between the commit and the message; the beat finds the row."""
    monkeypatch.setattr(platform.sender, "hint_dispatch", lambda: None)
    assert finished(query, submit_job(platform, JobCommand(("true",))))["state"] == "SUCCEEDED"


def test_more_jobs_than_slots_are_all_run(system, platform, query) -> None:
    wait_for(lambda: query("SELECT * FROM providers"))
    query("UPDATE providers SET capacity = 2")
    jobs = [submit_job(platform, JobCommand(("sh", "-c", f"echo {number}"))) for number in range(6)]
    assert {finished(query, job_id)["state"] for job_id in jobs} == {"SUCCEEDED"}
    assert query.value("SELECT count(*) FROM workers") == 2 == len(agents(query))
