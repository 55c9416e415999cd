"""The platform's Celery app: complete, configured by path, and clear about what it lacks."""

import sys

from sagas.jobs.ports import CommandSender, JobBoard, WorkerProvider, WorkerRegistry
from tasks.celery import CONFIGURATION, configuration


def test_every_step_is_a_task_and_every_port_is_there(platform) -> None:
    """L18: a handler was never registered; the saga hung in step 1."""
    for saga in platform.engine.registry:
        for step in saga.steps:
            assert f"{saga.name}.{step.name}" in platform.app.tasks
            assert not step.has_compensation or f"{saga.name}.{step.name}.compensate" in platform.app.tasks
    for port in (CommandSender, JobBoard, WorkerProvider, WorkerRegistry):
        assert platform.engine.ports[port] is not None


def test_the_tasks_of_the_design_are_there_each_on_its_queue(platform) -> None:
    names = {"workers.register", "workers.heartbeat", "jobs.accepted", "jobs.result", "jobs.submit", "jobs.dispatch"}
    assert names | {"jobs.log"} <= set(platform.app.tasks)
    routes = platform.app.conf.task_routes
    assert {routes[name]["queue"] for name in names} == {"control"} and routes["jobs.log"]["queue"] == "logs"
    queues = {queue.name for queue in platform.app.conf.task_queues}
    assert {"steps", "compensations", "control", "events", "logs"} < queues
    assert any(name.startswith("provider.") for name in queues)


def test_its_tasks_stay_in_their_own_app(platform) -> None:
    from celery import Celery

    assert not any(name.startswith(("jobs.", "workers.")) for name in Celery("other", set_as_current=False).tasks)


def test_a_configuration_in_the_working_directory_is_not_ours(tmp_path, monkeypatch) -> None:
    (tmp_path / "celeryconfig.py").write_text("task_acks_late = False\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    assert configuration().task_acks_late is True
    assert "celeryconfig" not in sys.modules
    assert CONFIGURATION.name == "celeryconfig.py"


def test_dispatch_is_on_the_beat_and_its_ticks_expire(platform) -> None:
    entry = platform.app.conf.beat_schedule["jobs.dispatch"]
    assert (entry["schedule"], entry["options"]["expires"], entry["options"]["queue"]) == (1.0, 10, "control")
    assert "sagas.reconcile" in platform.app.conf.beat_schedule


def test_a_worker_without_a_broker_ends_with_one_line(processes) -> None:
    env = {"HODEI_DATABASE_URL": "postgresql://localhost:1/none", "HODEI_BROKER_URL": ""}
    worker = processes.start("lost", [sys.executable, "-m", "celery", "-A", "tasks", "worker", "-l", "ERROR"], env)
    assert worker.wait(20) == 1
    assert worker.log().strip().splitlines()[-1].startswith("hodei: no broker: set HODEI_BROKER_URL")
