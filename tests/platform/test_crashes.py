"""Real agents, and what is left of them when something dies or never comes up."""

import pytest

from providers.process import ProcessProvider
from sagas import SagaState
from sagas.jobs.ports import WorkerProvider
from sagas.jobs.types import JobCommand
from tasks.messages import submit_job
from tests.harness.wait import wait_for
from tests.platform.conftest import SPEC
from tests.platform.world import LONG, agents, finished

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(("broker", "why"), [("redis://127.0.0.1:1/0", "not registered yet"), ("", "has ended")])
def test_an_agent_that_never_comes_up_leaves_nothing(make_platform, processes, rows, query, broker, why) -> None:
    """A failed step is shown to undo for real: no child process left behind, the slot given back."""
    home = processes.directory / "hodei"
    provider = ProcessProvider(home, broker, beat=0.5)
    platform = make_platform(ports={WorkerProvider: provider}, register_timeout=3.0)
    started = platform.lifecycle.provision_worker(rows.provider(), SPEC)
    result = platform.engine.orchestrator.drive(started.saga_id)
    assert result.outcome is SagaState.COMPENSATED
    assert why in (result.error or "")
    assert query.value("SELECT state FROM workers") == "TERMINATED"
    assert agents(query) == [] and provider.find_workers() == []
    assert not platform.lifecycle.has_orphaned_workers()


def test_a_crash_between_create_and_record_makes_no_second_worker(
    platform, start_worker, start_beat, effects, query
) -> None:
    """L27: kill between provider.create and commit: one worker in the end, none orphaned."""
    worker = start_worker("tests.platform.blocked_app", concurrency=3)
    start_beat("tests.platform.blocked_app")
    with effects.held_lock("created"):
        job_id = submit_job(platform, JobCommand(("true",)))
        effects.wait_until_blocked("created", timeout=LONG)
        worker.kill_all()
        wait_for(lambda: not effects.blocked("created"))
        assert query.value("SELECT state FROM saga_steps WHERE step_name = 'CreateInfrastructure'") == "IN_PROGRESS"
        worker.restart()
        effects.wait_until_blocked("created", timeout=LONG)
    assert finished(query, job_id)["state"] == "SUCCEEDED"
    assert effects.count("effect", step="create_worker") == 2
    assert query.value("SELECT count(*) FROM workers") == 1
    assert len(agents(query)) == 1, "made once, found once"
    assert not platform.lifecycle.has_orphaned_workers()


def test_a_result_waits_for_whoever_takes_it(system, platform, run, query) -> None:
    """The agent outlives the Celery worker that made it, and repeats its result until it is acknowledged."""
    run("true")
    job_id = submit_job(platform, JobCommand(("sh", "-c", "echo begun; sleep 3; echo done")))
    wait_for(lambda: query.value("SELECT state FROM jobs WHERE job_id = %s", str(job_id)) == "RUNNING", LONG)
    system.kill_all()
    wait_for(lambda: len(agents(query)) == 1, LONG, "the job has ended, the agent lives")
    assert query.value("SELECT state FROM jobs WHERE job_id = %s", str(job_id)) == "RUNNING"
    system.restart()
    row = finished(query, job_id)
    assert (row["state"], row["attempts"]) == ("SUCCEEDED", 1)
    wait_for(lambda: query.value("SELECT count(*) FROM job_logs WHERE job_id = %s", str(job_id)) == row["log_lines"])


def test_a_broker_that_loses_everything_costs_time_only(system, platform, run, query, broker_server) -> None:
    """P2, P10: RUN_JOB lost with its queue is sent again, because the live worker does not list the assignment."""
    run("true")
    broker_server.kill()
    job_id = submit_job(platform, JobCommand(("echo", "after")))
    broker_server.start()
    broker_server.flush()

    def ended() -> bool:
        if not system.running():  # a worker ends when the broker goes away under it: its supervisor starts it again
            system.restart()
        return query.value("SELECT state FROM jobs WHERE job_id = %s", str(job_id)) == "SUCCEEDED"

    wait_for(ended, 2 * LONG)


def test_a_worker_whose_agent_died_is_given_up_and_another_one_made(platform, start_worker, start_beat, run, query):
    """L13, and no row without a worker: its slot comes back, and no job is sent to a dead worker."""
    start_worker("tasks", concurrency=3, env={"HODEI_WORKER_DEAD": "5"})
    start_beat("tasks", env={"HODEI_WORKER_DEAD": "5"})
    run("true")
    (agent,) = agents(query)
    query("UPDATE providers SET capacity = 1")
    agent.kill()
    wait_for(lambda: query.value("SELECT state FROM workers") == "TERMINATED", LONG)
    assert run("true")["state"] == "SUCCEEDED"
    states = {row["state"] for row in query("SELECT state FROM workers")}
    assert states == {"TERMINATED", "READY"} and len(agents(query)) == 1
    outcomes = {row["state"] for row in query("SELECT state FROM saga_instances WHERE saga_type = 'termination'")}
    assert outcomes == {"COMPLETED"}


def test_a_host_that_starts_again_withdraws_the_workers_that_are_gone(system, platform, run, query) -> None:
    """`hodei down` ends agents; after the next `hodei up` their rows must not be given jobs."""
    run("true")
    (agent,) = agents(query)
    system.stop()
    agent.kill()
    system.restart()
    wait_for(lambda: query.value("SELECT state FROM workers") in ("TERMINATING", "TERMINATED"), LONG)
    assert run("true")["state"] == "SUCCEEDED"
