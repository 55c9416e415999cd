"""Issue 4, P2, P10, P14: the broker forgets all at a chosen point of a job's life; the job ends, once, and ran once."""

import json
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

import pytest

from sagas.jobs.types import JobCommand, JobId, WorkerId
from tasks.due import cancel_job
from tasks.messages import submit_job
from tasks.platform import Platform
from tests.harness.celery_nodes import WorkerProcess
from tests.harness.database import Query
from tests.harness.servers import BrokerServer
from tests.harness.wait import wait_for
from tests.platform.world import LONG, agents, finished

Messages = Callable[[str], list[str]]

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]


@pytest.fixture
def messages(broker_server: BrokerServer) -> Messages:
    """`messages("control")`: the tasks whose messages wait in a queue."""

    def waiting(queue: str) -> list[str]:
        with broker_server.client() as client:
            return [json.loads(one)["headers"]["task"] for one in client.lrange(queue, 0, -1)]

    return waiting


@pytest.fixture
def counted(tmp_path, query: Query) -> Callable[..., JobCommand]:
    """A command that counts its runs, waits for a file `go` (or not), and prints a line."""

    def command(wait: bool = False) -> JobCommand:
        pause = "until [ -e go ]; do sleep 0.1; done;" if wait else ""
        return JobCommand(("sh", "-c", f"echo run >> runs; {pause} echo done"), cwd=str(tmp_path))

    return command


@contextmanager
def stopped(pid: int) -> Iterator[None]:
    """A process that does nothing meanwhile."""
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


@contextmanager
def nobody_listens(system: WorkerProcess, messages: Messages) -> Iterator[None]:
    """The Celery worker takes no message meanwhile, but for the first: it has asked the broker for that one already."""
    with stopped(system.main_pid):
        wait_for(lambda: messages("control"), LONG)
        yield


@contextmanager
def no_agent_listens(platform: Platform, query: Query, messages: Messages) -> Iterator[str]:
    """The same for the one agent. Its queue."""
    worker_id = WorkerId(query.value("SELECT worker_id FROM workers"))
    with stopped(int(query.value("SELECT reference FROM workers"))):
        for _ in range(2):
            platform.sender.send_registered(worker_id)
        wait_for(lambda: messages(f"worker.{worker_id}"), LONG)
        yield f"worker.{worker_id}"


def ended_once(query: Query, job_id: JobId, tmp_path, runs: int = 1) -> None:
    """SUCCEEDED, with one result, one end and one run."""
    row = finished(query, job_id)
    assert (row["state"], row["attempts"]) == ("SUCCEEDED", 1)
    assert query.value("SELECT count(*) FROM job_results WHERE job_id = %s AND counted", str(job_id)) == 1
    ends = "SELECT count(*) FROM saga_events WHERE stream = %s AND event_type = 'JobFinished'"
    assert query.value(ends, f"job:{job_id}") == 1
    assert (tmp_path / "runs").read_text().splitlines() == ["run"] * runs


def test_at_registration(system, platform, query, broker_server, messages, counted, tmp_path) -> None:
    job_id = submit_job(platform, counted())
    wait_for(lambda: query("SELECT 1 FROM workers WHERE registered_at IS NULL") and agents(query), LONG)
    with nobody_listens(system, messages):
        wait_for(lambda: "workers.register" in messages("control"), LONG)
        broker_server.flush()
    ended_once(query, job_id, tmp_path)
    assert query.value("SELECT count(*) FROM workers") == 1 == len(agents(query))


def test_at_run_job(system, platform, query, run, broker_server, messages, counted, tmp_path) -> None:
    run("true")
    with no_agent_listens(platform, query, messages) as queue:
        job_id = submit_job(platform, counted())
        dispatched = "SELECT count(*) FROM saga_instances WHERE saga_type = 'execution' AND state = 'COMPLETED'"
        wait_for(lambda: query.value(dispatched) == 2 and "agent.run_job" in messages(queue), LONG)
        broker_server.flush()
    ended_once(query, job_id, tmp_path)


def test_at_the_acceptance(system, platform, query, run, broker_server, messages, counted, tmp_path) -> None:
    """The heartbeat that lists the assignment says it again: the job is RUNNING before it ends."""
    run("true")
    with ExitStack() as world:
        with no_agent_listens(platform, query, messages) as queue:
            job_id = submit_job(platform, counted(wait=True))
            wait_for(lambda: "agent.run_job" in messages(queue), LONG)
            world.enter_context(nobody_listens(system, messages))
        wait_for(lambda: "jobs.accepted" in messages("control"), LONG)
        broker_server.flush()
    wait_for(lambda: query.value("SELECT state FROM jobs WHERE job_id = %s", str(job_id)) == "RUNNING", LONG)
    (tmp_path / "go").touch()
    ended_once(query, job_id, tmp_path)


def test_at_the_result(system, platform, query, broker_server, messages, counted, tmp_path) -> None:
    job_id = submit_job(platform, counted(wait=True))
    wait_for(lambda: query.value("SELECT state FROM jobs") == "RUNNING", LONG)
    with nobody_listens(system, messages):
        (tmp_path / "go").touch()
        wait_for(lambda: "jobs.result" in messages("control"), LONG)
        broker_server.flush()
    ended_once(query, job_id, tmp_path)
    wait_for(lambda: query.value("SELECT state FROM workers") == "READY")


def test_at_the_cancellation(system, platform, query, broker_server, messages, counted, tmp_path) -> None:
    """CANCEL_JOB is sent again, and not RUN_JOB: of the job's processes none is left."""
    job_id = submit_job(platform, counted(wait=True))
    wait_for(lambda: query.value("SELECT state FROM jobs") == "RUNNING", LONG)
    with no_agent_listens(platform, query, messages) as queue:
        cancel_job(platform, job_id)
        wait_for(lambda: "agent.cancel_job" in messages(queue), LONG)
        broker_server.flush()
    assert finished(query, job_id)["state"] == "CANCELLED"
    assert (tmp_path / "runs").read_text() == "run\n"
    wait_for(lambda: len(agents(query)) == 1, LONG)


def test_again_and_again(system, platform, query, broker_server, counted, tmp_path) -> None:
    """At whatever points ten flushes, a third of a second apart, meet four jobs."""
    jobs = [submit_job(platform, counted()) for _ in range(4)]
    for _ in range(10):
        broker_server.flush()
        query.value("SELECT pg_sleep(0.3)")
    for job_id in jobs:
        finished(query, job_id)
    ended_once(query, jobs[-1], tmp_path, runs=len(jobs))
    assert query.value("SELECT count(*) FROM jobs WHERE state = 'SUCCEEDED' AND attempts = 1") == len(jobs)
