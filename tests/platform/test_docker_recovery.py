"""Recovery on workers that are containers of a real engine: killed, and stopped (issue 4)."""

import socket

import pytest

from sagas.jobs.types import JobCommand, WorkerId
from tasks.messages import submit_job
from tests.harness.docker_engine import Containers, needs_engine
from tests.harness.wait import wait_for
from tests.platform.docker_system import docker_settings, engine_socket, home  # noqa: F401
from tests.platform.test_recovery import recovery, running, states
from tests.platform.world import LONG, finished, send_late_result
from tests.providers.docker_fixtures import containers, docker_engine, image  # noqa: F401

needs_engine()
pytestmark = [pytest.mark.docker, pytest.mark.slow, pytest.mark.timeout(400), pytest.mark.xdist_group("docker")]


@pytest.fixture
def sleeping(system, platform, query):
    """`sleeping(seconds)`: a job that sleeps so long runs on the first worker: (its id, its row)."""

    def start(seconds: int) -> tuple:
        assert query.value("SELECT kind FROM providers WHERE host = %s", socket.gethostname()) in (None, "docker")
        job_id = submit_job(platform, JobCommand(("sleep", str(seconds))))
        return job_id, running(query, job_id)

    return start


def one_result(query) -> dict:
    (counted,) = query("SELECT * FROM job_results WHERE counted")
    return counted


def test_a_killed_containers_job_finishes_in_another_one(
    sleeping,
    platform,
    query,
    containers: Containers,  # noqa: F811
    home: str,  # noqa: F811
) -> None:
    """L13, L31, L36: the container is killed in the midst of its job; the new one is the only one that is left."""
    job_id, old = sleeping(5)
    containers.one(WorkerId(old["worker_id"])).kill()
    row = finished(query, job_id, 2 * LONG)
    assert (row["state"], row["attempts"]) == ("SUCCEEDED", 2)
    wait_for(lambda: states(query)[old["worker_id"]] == "TERMINATED", LONG)
    assert states(query) == {old["worker_id"]: "TERMINATED", row["worker_id"]: "READY"}
    (left,) = containers.of_home(home)
    assert left.id == containers.one(WorkerId(row["worker_id"])).id
    assert one_result(query)["assignment_id"] == row["assignment_id"]
    assert recovery(query, "COMPLETED")
    assert not platform.lifecycle.has_orphaned_workers()


def test_a_paused_container_that_comes_back_in_time_keeps_its_job(
    sleeping,
    platform,
    query,
    containers: Containers,  # noqa: F811
    home: str,  # noqa: F811
) -> None:
    """US-4.1 criterion 3: CANCELLED, the new worker undone, nothing terminated; the result counts, once."""
    job_id, old = sleeping(20)
    container = containers.one(WorkerId(old["worker_id"]))
    # While the provider is full with others, the recovery waits for room: time to come back in.
    query("UPDATE providers SET capacity = 0")
    container.pause()
    recovery(query, "IN_PROGRESS")
    wait_for(lambda: query.value("SELECT state FROM jobs") == "PENDING", LONG)
    container.unpause()
    query("UPDATE providers SET capacity = 3")
    recovery(query, "CANCELLED")
    row = finished(query, job_id)
    assert (row["state"], row["attempts"], row["worker_id"]) == ("SUCCEEDED", 1, old["worker_id"])
    assert one_result(query)["assignment_id"] == old["assignment_id"]
    wait_for(lambda: set(states(query).values()) <= {"READY", "TERMINATED"}, LONG)
    assert states(query)[old["worker_id"]] == "READY"
    assert [one.id for one in containers.of_home(home)] == [container.id]
    assert not platform.lifecycle.has_orphaned_workers()


def test_a_paused_container_that_does_not_come_back_is_destroyed(
    sleeping,
    platform,
    query,
    containers: Containers,  # noqa: F811
    home: str,  # noqa: F811
) -> None:
    """L1, L36: the job ends in another container; the paused one is removed, and its late word does not count."""
    job_id, old = sleeping(5)
    containers.one(WorkerId(old["worker_id"])).pause()
    row = finished(query, job_id, 2 * LONG)
    assert (row["state"], row["attempts"]) == ("SUCCEEDED", 2)
    send_late_result(platform, old)
    wait_for(lambda: query.value("SELECT count(*) FROM job_results") == 2, LONG)
    assert one_result(query)["assignment_id"] == row["assignment_id"]
    wait_for(lambda: states(query)[old["worker_id"]] == "TERMINATED", LONG)
    (left,) = containers.of_home(home)
    assert left.id == containers.one(WorkerId(row["worker_id"])).id
    assert not platform.lifecycle.has_orphaned_workers()
