"""Workers that are killed or stopped in the midst of a job: real agents, Celery workers and beat."""

import psutil
import pytest

from sagas.jobs.types import JobCommand, JobId, WorkerId
from tasks.messages import submit_job
from tests.harness.wait import wait_for
from tests.platform.conftest import SPEC
from tests.platform.world import LONG, agents, finished, send_late_result

pytestmark = pytest.mark.slow

DEAD = {"HODEI_WORKER_DEAD": "8"}
ONCE = "if test -e {0}; then echo again >> {0}; exit 0; fi; echo first >> {0}; exec sleep {1}"
"""A job that takes long the first time only."""


@pytest.fixture
def fast(platform, start_worker, start_beat):
    """A system that takes a worker for lost after 8 s."""
    worker = start_worker("tasks", concurrency=3, env=DEAD)
    start_beat("tasks", env=DEAD)
    return worker


def agent_of(query, worker_id: object) -> psutil.Process:
    reference = query.value("SELECT reference FROM workers WHERE worker_id = %s", str(worker_id))
    return psutil.Process(int(reference))


def running(query, job_id: JobId) -> dict:
    (row,) = wait_for(lambda: query("SELECT * FROM jobs WHERE job_id = %s AND state = 'RUNNING'", str(job_id)), LONG)
    return row


def recovery(query, state: str) -> dict:
    def look() -> list[dict]:
        return query("SELECT * FROM saga_instances WHERE saga_type = 'recovery' AND state = %s", state)

    def story() -> str:
        events = query("SELECT stream, event_type, step_name, payload FROM saga_events ORDER BY event_id")
        return "\n".join(str(event) for event in events)

    return wait_for(look, LONG, story)[0]


def states(query) -> dict[str, str]:
    return {row["worker_id"]: row["state"] for row in query("SELECT worker_id, state FROM workers")}


def test_a_killed_workers_job_finishes_on_another_one(platform, start_worker, start_beat, query, tmp_path) -> None:
    """L13, L31, L36: kill -9 of a busy agent. Proven dead on its own host, so that nobody waits for its silence."""
    never = {"HODEI_WORKER_DEAD": "600"}
    start_worker("tasks", concurrency=3, env=never)
    start_beat("tasks", env=never)
    mark = tmp_path / "mark"
    job_id = submit_job(platform, JobCommand(("sh", "-c", ONCE.format(mark, 300))))
    old = running(query, job_id)
    wait_for(mark.exists)
    agent_of(query, old["worker_id"]).kill()
    row = finished(query, job_id, 2 * LONG)
    assert (row["state"], row["attempts"]) == ("SUCCEEDED", 2)
    assert mark.read_text() == "first\nagain\n"
    wait_for(lambda: states(query)[old["worker_id"]] == "TERMINATED", LONG)
    assert states(query) == {old["worker_id"]: "TERMINATED", row["worker_id"]: "READY"}
    (left,) = agents(query)
    assert left.environ()["HODEI_WORKER_ID"] == row["worker_id"], "its job's processes are gone, too"
    assert query.value("SELECT count(*) FROM job_results") == 1
    assert recovery(query, "COMPLETED")
    assert not platform.lifecycle.has_orphaned_workers()


def test_a_stopped_worker_that_comes_back_in_time_keeps_its_job(fast, platform, query, tmp_path) -> None:
    """US-4.1 criterion 3: CANCELLED, the new worker undone, nothing terminated; the result counts, once."""
    gate = tmp_path / "gate"
    job_id = submit_job(platform, JobCommand(("sh", "-c", f"until test -e {gate}; do sleep 0.1; done")))
    old = running(query, job_id)
    agent = agent_of(query, old["worker_id"])
    # While the provider is full with others, the recovery waits for room: time to come back in.
    query("UPDATE providers SET capacity = 0")
    agent.suspend()
    try:
        recovery(query, "IN_PROGRESS")
        wait_for(lambda: query.value("SELECT state FROM jobs") == "PENDING", LONG)
    finally:
        agent.resume()
    query("UPDATE providers SET capacity = 4")
    recovery(query, "CANCELLED")
    wait_for(lambda: query.value("SELECT state FROM jobs") == "RUNNING", LONG)
    gate.touch()
    row = finished(query, job_id)
    assert (row["state"], row["attempts"], row["worker_id"]) == ("SUCCEEDED", 1, old["worker_id"])
    assert states(query)[old["worker_id"]] == "READY"
    wait_for(lambda: set(states(query).values()) <= {"READY", "TERMINATED"}, LONG)
    assert [one.pid for one in agents(query)] == [agent.pid]
    results = query("SELECT counted FROM job_results")
    assert [one["counted"] for one in results] == [True]
    assert query.value("SELECT count(*) FROM saga_instances WHERE saga_type = 'termination'") == 0


def test_a_stopped_worker_that_comes_back_too_late_is_refused(fast, platform, query, tmp_path) -> None:
    """L36: the job has ended on another worker; the result of the old assignment is kept and does not count."""
    mark = tmp_path / "mark"
    job_id = submit_job(platform, JobCommand(("sh", "-c", ONCE.format(mark, 300))))
    old = running(query, job_id)
    agent = agent_of(query, old["worker_id"])
    agent.suspend()
    row = finished(query, job_id, 2 * LONG)
    assert (row["state"], row["attempts"]) == ("SUCCEEDED", 2)
    send_late_result(platform, old)
    wait_for(lambda: query.value("SELECT count(*) FROM job_results") == 2, LONG)
    results = {one["assignment_id"]: one["counted"] for one in query("SELECT * FROM job_results")}
    assert results == {old["assignment_id"]: False, row["assignment_id"]: True}
    assert query.value("SELECT state FROM jobs") == "SUCCEEDED"
    wait_for(lambda: states(query)[old["worker_id"]] == "TERMINATED", LONG)
    assert not agent.is_running() or agent.status() == psutil.STATUS_ZOMBIE, "a stopped process is destroyed, too"
    assert {one.environ()["HODEI_WORKER_ID"] for one in agents(query)} == {row["worker_id"]}


def test_what_has_no_row_and_what_is_idle_is_ended_by_sagas(platform, start_worker, start_beat, run, query) -> None:
    """L13: a zombie (its row gone) and an idle worker: no process is left."""
    env = {"HODEI_WORKER_IDLE": "3"}
    start_worker("tasks", concurrency=3, env=env)
    start_beat("tasks", env=env)
    pid = int(platform.provider().create_worker(WorkerId.new(), SPEC, "token").reference)
    run("true")
    wait_for(lambda: not psutil.pid_exists(pid), LONG)
    wait_for(lambda: set(states(query).values()) == {"TERMINATED"}, LONG)
    wait_for(lambda: not platform.provider().find_workers(), LONG)
    reasons = query("SELECT context->'payload'->>'reason' AS why FROM saga_instances WHERE saga_type = 'termination'")
    assert sorted(row["why"] for row in reasons) == ["idle", "zombie"]
    assert not platform.lifecycle.has_orphaned_workers()
