"""The platform's sagas on workers that are containers of a real engine (issue 4: the same sagas pass on Docker)."""

import socket
from pathlib import Path

import pytest

from providers.docker import DockerProvider
from sagas import SagaState
from sagas.jobs.types import JobCommand, WorkerId, WorkerSpec
from tasks.messages import submit_job
from tests.harness.docker_engine import Containers, needs_engine
from tests.harness.wait import never, wait_for
from tests.platform.docker_system import docker_settings, engine_socket, home  # noqa: F401
from tests.platform.world import LONG, finished
from tests.providers.docker_fixtures import containers, docker_engine, image  # noqa: F401

needs_engine()
pytestmark = [pytest.mark.docker, pytest.mark.slow, pytest.mark.timeout(400), pytest.mark.xdist_group("docker")]

OWN_IMAGE = WorkerSpec("", "server:50051")


def provider_id(query) -> str:
    """Once the host has made itself known."""
    (row,) = wait_for(lambda: query("SELECT * FROM providers"), LONG)
    assert (row["kind"], row["host"], row["capacity"]) == ("docker", socket.gethostname(), 3)
    return str(row["provider_id"])


def test_a_job_runs_in_a_container_and_termination_leaves_none(
    system,
    run,
    query,
    platform,
    containers: Containers,  # noqa: F811
    home: str,  # noqa: F811
) -> None:
    """L1, L13: asserted on the engine. The job's exit code is its own; a killed container's worker is TERMINATED."""
    assert provider_id(query)
    row = run("sh", "-c", "id -un; cat /proc/1/comm; exit 3")
    assert (row["state"], row["exit_code"], row["attempts"]) == ("FAILED", 3, 1)
    wait_for(lambda: query.value("SELECT count(*) FROM job_logs") == row["log_lines"])
    pieces = [piece["content"] for piece in query("SELECT content FROM job_logs ORDER BY line_number")]
    assert "".join(pieces) == "hodei\ndocker-init\n"
    (worker,) = query("SELECT * FROM workers")
    container = containers.one(WorkerId(worker["worker_id"]))
    assert (worker["state"], worker["reference"]) == ("READY", container.short_id)
    assert not platform.lifecycle.has_orphaned_workers()
    container.kill()
    wait_for(lambda: query.value("SELECT state FROM workers") == "TERMINATED", LONG)
    assert containers.of_home(home) == []
    assert not platform.lifecycle.has_orphaned_workers()


def test_a_killed_provider_host_finds_its_workers_again(
    system,
    run,
    query,
    platform,
    containers: Containers,  # noqa: F811
    home: str,  # noqa: F811
) -> None:
    """L29: the Celery worker that made it is killed with all its processes; the next job runs in the same container."""
    first = run("true")
    system.kill_all()
    (container,) = containers.of_home(home)
    assert container.status == "running"
    system.restart()
    second = run("true")
    assert (second["state"], second["worker_id"]) == ("SUCCEEDED", first["worker_id"])
    assert [one.id for one in containers.of_home(home)] == [container.id]
    assert not platform.lifecycle.has_orphaned_workers()


def test_an_engine_that_comes_back_in_time_costs_no_attempt(
    system,
    query,
    platform,
    engine_socket: Path,  # noqa: F811
    containers: Containers,  # noqa: F811
    home: str,  # noqa: F811
) -> None:
    """DESIGN 6.8: more tries than the step has attempts, none of them spent; then the worker is made."""
    chosen = provider_id(query)
    engine_socket.unlink()
    started = platform.lifecycle.provision_worker(chosen, OWN_IMAGE)
    waited = "SELECT count(*) FROM saga_events WHERE event_type = 'StepNotReady' AND step_name = 'CreateInfrastructure'"
    wait_for(lambda: query.value(waited) > 3, LONG)
    engine_socket.symlink_to("/var/run/docker.sock")
    wait_for(lambda: query("SELECT * FROM workers WHERE state = 'READY'"), LONG)
    attempt = "SELECT attempt FROM saga_steps WHERE saga_id = %s AND step_name = 'CreateInfrastructure'"
    assert query.value(attempt, str(started.saga_id)) == 1
    assert len(containers.of_home(home)) == 1


def test_while_the_engine_is_away_no_worker_is_asked_for(
    system,
    query,
    platform,
    engine_socket: Path,  # noqa: F811
) -> None:
    """The host says so with its next beat; the job waits, and gets its worker when the engine is back."""
    provider_id(query)
    engine_socket.unlink()
    trouble = "SELECT trouble FROM providers"
    assert "no worker can be made" in wait_for(lambda: query.value(trouble), LONG)
    job_id = submit_job(platform, JobCommand(("true",)))
    never(lambda: query("SELECT * FROM saga_instances"), during=3)
    engine_socket.symlink_to("/var/run/docker.sock")
    assert finished(query, job_id)["state"] == "SUCCEEDED"
    assert query.value(trouble) is None


@pytest.mark.parametrize(("network", "why"), [("none", "not registered yet"), ("no-such-network", "cannot be started")])
def test_an_agent_that_never_comes_up_leaves_no_container(
    make_platform,
    rows,
    query,
    containers: Containers,  # noqa: F811
    home: str,  # noqa: F811
    monkeypatch,
    network: str,
    why: str,
) -> None:
    """US-2.1: a failed step is undone for real: what was made, or half made, is gone, and its slot given back."""
    monkeypatch.setenv("HODEI_DOCKER_NETWORK", network)
    platform = make_platform(register_timeout=3.0)
    assert isinstance(platform.make_provider(), DockerProvider)
    started = platform.lifecycle.provision_worker(rows.provider(), OWN_IMAGE)
    result = platform.engine.orchestrator.drive(started.saga_id)
    assert result.outcome is SagaState.COMPENSATED
    assert why in (result.error or "")
    assert query.value("SELECT state FROM workers") == "TERMINATED"
    assert containers.of_home(home) == []
    assert not platform.lifecycle.has_orphaned_workers()
