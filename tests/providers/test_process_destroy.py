"""The process provider destroys: nothing of the worker is left, and nobody else is touched."""

import json
import os
import signal
import sys
from pathlib import Path

import psutil
import pytest
from celery import Celery

from providers.process import ProcessProvider
from sagas.jobs.ports import ProviderError
from sagas.jobs.types import AssignmentId, JobId, WorkerId
from tests.harness.processes import Processes
from tests.harness.system import MARK, alive
from tests.harness.wait import wait_for
from tests.providers.conftest import SPEC
from tests.providers.looking import agents, pid_file

STUBBORN = """trap '' TERM
sh -c 'trap "" TERM; echo $$ >> pids; exec sleep 300' &
env -i sh -c 'trap "" TERM; echo $$ >> pids; exec sleep 300' &
setsid sh -c 'trap "" TERM; echo $$ >> pids; exec sleep 300' &
wait"""


def start_job(provider: ProcessProvider, broker_url: str, worker_id: WorkerId, directory: Path) -> list[int]:
    """Run the stubborn job on the worker; the pids of its children."""
    command = {"argv": ["sh", "-c", STUBBORN], "cwd": str(directory)}
    kwargs = {"assignment_id": str(AssignmentId.new()), "job_id": str(JobId.new()), "command": command}
    with Celery("test", broker=broker_url, set_as_current=False) as app:
        app.send_task("agent.run_job", kwargs=kwargs, queue=f"worker.{worker_id}")
    pids = directory / "pids"
    wait_for(lambda: pids.exists() and len(pids.read_text().split()) == 3)
    return [int(pid) for pid in pids.read_text().split()]


def test_destroying_leaves_nothing(
    provider: ProcessProvider, worker_id: WorkerId, broker_url: str, tmp_path: Path
) -> None:
    """L13: also of its jobs, with children that ignore SIGTERM or went into sessions of their own."""
    agent = int(provider.create_worker(worker_id, SPEC, "token").reference)
    job = start_job(provider, broker_url, worker_id, tmp_path)
    provider.destroy_worker(worker_id)
    assert not any(map(alive, [agent, *job]))
    assert not pid_file(tmp_path, worker_id).parent.exists()
    assert provider.find_workers() == []
    assert not provider.is_alive(worker_id)


def test_destroying_a_dead_agent_kills_its_jobs(
    provider: ProcessProvider, worker_id: WorkerId, broker_url: str, tmp_path: Path
) -> None:
    agent = int(provider.create_worker(worker_id, SPEC, "token").reference)
    job = start_job(provider, broker_url, worker_id, tmp_path)
    os.kill(agent, signal.SIGKILL)
    wait_for(lambda: not provider.is_alive(worker_id))
    assert [(found.worker_id, found.alive) for found in provider.find_workers()] == [(worker_id, False)]
    assert all(map(alive, job))
    provider.destroy_worker(worker_id)
    assert not any(map(alive, job))


def test_destroying_a_hung_agent(broker_url: str, worker_id: WorkerId, provider: ProcessProvider, tmp_path) -> None:
    agent = int(provider.create_worker(worker_id, SPEC, "token").reference)
    os.kill(agent, signal.SIGSTOP)
    impatient = ProcessProvider(tmp_path / "hodei", broker_url, grace=0.2)
    impatient.destroy_worker(worker_id)
    assert not alive(agent)


def test_a_lock_that_is_never_released_is_an_error(
    provider: ProcessProvider, worker_id: WorkerId, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ProcessProvider, "LOCK_TIMEOUT", 0.1)
    with provider._lock(worker_id), pytest.raises(ProviderError, match="another create or destroy"):
        provider.destroy_worker(worker_id)


def test_destroying_what_is_not_there_is_fine(provider: ProcessProvider, worker_id: WorkerId) -> None:
    provider.destroy_worker(worker_id)
    provider.create_worker(worker_id, SPEC, "token")
    provider.destroy_worker(worker_id)
    provider.destroy_worker(worker_id)
    assert agents(worker_id) == []


def test_a_destroy_that_fails_says_so(
    provider: ProcessProvider, worker_id: WorkerId, monkeypatch: pytest.MonkeyPatch
) -> None:
    """L14: nobody may believe that a worker is gone when it is not."""
    provider.create_worker(worker_id, SPEC, "token")
    monkeypatch.setattr(psutil.Process, "kill", lambda process: None)
    monkeypatch.setattr(psutil.Process, "terminate", lambda process: None)
    monkeypatch.setattr(ProcessProvider, "KILL_TIMEOUT", 0.1)
    impatient = provider
    monkeypatch.setattr(impatient, "_grace", 0.1)
    with pytest.raises(ProviderError, match="cannot be killed: pids"):
        impatient.destroy_worker(worker_id)
    assert provider.is_alive(worker_id)
    monkeypatch.undo()
    provider.destroy_worker(worker_id)
    assert agents(worker_id) == []


def test_a_pid_that_was_given_to_somebody_else_is_not_the_agent(
    provider: ProcessProvider, worker_id: WorkerId, processes: Processes, tmp_path: Path
) -> None:
    stranger = processes.start("stranger", ["sleep", "300"])
    path = pid_file(tmp_path, worker_id)
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps({"pid": stranger.main_pid, "started": 1.0, "worker_id": str(worker_id)}))
    assert not provider.is_alive(worker_id)
    provider.destroy_worker(worker_id)
    assert stranger.running()


def test_workers_of_another_home_are_not_ours(
    provider: ProcessProvider, worker_id: WorkerId, broker_url: str, tmp_path: Path
) -> None:
    provider.create_worker(worker_id, SPEC, "token")
    other = ProcessProvider(tmp_path / "other", broker_url)
    assert other.find_workers() == []
    other.destroy_worker(worker_id)
    assert provider.is_alive(worker_id)


def test_no_zombie_is_left_under_the_creator(provider: ProcessProvider, worker_id: WorkerId) -> None:
    provider.create_worker(worker_id, SPEC, "token")
    provider.destroy_worker(worker_id)
    children = psutil.Process().children()
    assert [child for child in children if child.status() == psutil.STATUS_ZOMBIE] == []
    assert MARK in os.environ


def test_the_shell_in_which_an_agent_was_started_by_hand_is_spared(
    provider: ProcessProvider, worker_id: WorkerId, processes: Processes, broker_url: str, tmp_path: Path
) -> None:
    env = {
        "HODEI_BROKER_URL": broker_url,
        "HODEI_WORKER_ID": str(worker_id),
        "HODEI_WORKER_TOKEN": "token",
        "HODEI_AGENT_HOME": str(pid_file(tmp_path, worker_id).parent),
    }
    variables = " ".join(f"{name}={value}" for name, value in env.items())
    shell = processes.start("shell", ["sh", "-c", f"env {variables} {sys.executable} -m agent; echo survived; read x"])
    wait_for(lambda: provider.is_alive(worker_id))
    provider.destroy_worker(worker_id)
    shell.wait_for_log("survived")
    assert agents(worker_id) == []
