"""pytest-celery's own setup, assertions and restarts work on processes."""

import pytest
from pytest_celery import CeleryTestSetup

APP = "tests.harness_tests.trivial_app"
pytestmark = [pytest.mark.database("empty"), pytest.mark.worker(app=APP)]


def test_the_setup_is_ready_by_ping_by_control_and_by_status(celery_setup: CeleryTestSetup) -> None:
    assert celery_setup.ready(ping=True, control=True, docker=True)
    assert len(celery_setup) == 2
    assert celery_setup.worker.version.startswith("5.")
    assert celery_setup.worker.get_running_processes_info(["pid"])[0]["pid"] == celery_setup.worker.process.main_pid


@pytest.mark.worker(app=APP, count=2, concurrency=1)
def test_a_cluster_answers_and_one_node_can_be_killed(celery_setup: CeleryTestSetup) -> None:
    first, second = celery_setup.worker_cluster
    names = {name for answer in celery_setup.app.control.ping() for name in answer}
    assert names == {first.hostname(), second.hostname()}
    first.kill()
    assert first.container.status == "exited" and second.container.status == "running"
    first.restart()
    first.assert_log_exists("ready.")
    assert celery_setup.ready(ping=True)


@pytest.mark.worker(app=APP, queues=("mine",))
def test_a_worker_outlives_a_restart_of_the_broker(celery_setup: CeleryTestSetup) -> None:
    assert celery_setup.worker.worker_queue == "mine"
    celery_setup.broker.restart()
    assert celery_setup.ready(ping=True)


@pytest.mark.database("full")
@pytest.mark.worker(app="tasks", queues=("steps", "control"), concurrency=2)
def test_the_setup_runs_the_platform_s_app(celery_setup: CeleryTestSetup) -> None:
    assert celery_setup.ready(control=True)
    assert len(celery_setup.worker.process.child_pids()) == 2
    celery_setup.worker.restart(force=True)
    celery_setup.worker.assert_log_exists("Warm shutdown")
    assert celery_setup.ready(control=True)
