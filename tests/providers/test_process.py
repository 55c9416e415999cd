"""The process provider: one worker for one id, and nothing left of it, whoever dies at what moment."""

import json
import os
import signal
import stat
import sys
from pathlib import Path

import psutil
import pytest
from celery import Celery

from providers.process import ProcessProvider
from sagas.jobs.ports import ProviderError, WorkerProvider
from sagas.jobs.types import AssignmentId, JobId, WorkerId
from tests.harness.processes import Processes
from tests.harness.system import MARK, alive
from tests.harness.wait import wait_for
from tests.providers.conftest import SPEC

CREATOR = """
import os, signal, sys
from pathlib import Path
from providers.process import ProcessProvider
from sagas.jobs.types import WorkerId, WorkerSpec
home, broker, worker_id, kill_at = sys.argv[1:]
provider = ProcessProvider(Path(home), broker, beat=0.3)
if kill_at != "never":
    setattr(provider, kill_at, lambda *args: os.kill(os.getpid(), signal.SIGKILL))
print("created", provider.create_worker(WorkerId(worker_id), WorkerSpec("image", "server"), "token").reference)
"""
STUBBORN = """trap '' TERM
sh -c 'trap "" TERM; echo $$ >> pids; exec sleep 300' &
env -i sh -c 'trap "" TERM; echo $$ >> pids; exec sleep 300' &
setsid sh -c 'trap "" TERM; echo $$ >> pids; exec sleep 300' &
wait"""


@pytest.fixture
def worker_id() -> WorkerId:
    return WorkerId.new()


def pid_file(tmp_path: Path, worker_id: WorkerId) -> Path:
    return tmp_path / "hodei" / "agents" / str(worker_id) / "agent.pid"


def agents(worker_id: WorkerId) -> list[int]:
    """The pids of all agents of this worker, however they came to be."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get("HODEI_WORKER_ID") == str(worker_id) and "agent" in process.cmdline():
                found.append(process.pid)
        except psutil.Error:
            continue
    return found


def create_elsewhere(processes: Processes, provider_home: Path, broker_url: str, worker_id: WorkerId, kill_at: str):
    """Another process that creates the worker, and is killed when it calls the method named."""
    command = [sys.executable, "-c", CREATOR, str(provider_home), broker_url, str(worker_id), kill_at]
    return processes.start(f"creator-{len(processes.started)}", command)


def start_job(provider: ProcessProvider, broker_url: str, worker_id: WorkerId, directory: Path) -> list[int]:
    """Run the stubborn job on the worker; the pids of its children."""
    command = {"argv": ["sh", "-c", STUBBORN], "cwd": str(directory)}
    kwargs = {"assignment_id": str(AssignmentId.new()), "job_id": str(JobId.new()), "command": command}
    with Celery("test", broker=broker_url, set_as_current=False) as app:
        app.send_task("agent.run_job", kwargs=kwargs, queue=f"worker.{worker_id}")
    pids = directory / "pids"
    wait_for(lambda: pids.exists() and len(pids.read_text().split()) == 3)
    return [int(pid) for pid in pids.read_text().split()]


def test_it_is_a_worker_provider(provider: ProcessProvider) -> None:
    port: WorkerProvider = provider
    assert port.find_workers() == []


def test_a_worker_is_a_process_of_its_own(provider: ProcessProvider, worker_id: WorkerId, tmp_path: Path) -> None:
    handle = provider.create_worker(worker_id, SPEC, "token")
    pid = int(handle.reference)
    assert os.getsid(pid) == pid
    assert psutil.Process(pid).ppid() != os.getpid()
    started = psutil.Process(pid).create_time()
    assert json.loads(pid_file(tmp_path, worker_id).read_text()) == {
        "pid": pid,
        "started": started,
        "worker_id": str(worker_id),
    }
    assert provider.is_alive(worker_id)
    assert list(provider.find_workers()) == [handle]


def test_an_agent_gets_the_brokers_credentials_and_no_others(
    provider: ProcessProvider, worker_id: WorkerId, broker_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HODEI_DATABASE_URL", "postgresql://secret")
    monkeypatch.setenv("PSP_KEY", "secret")
    env = psutil.Process(int(provider.create_worker(worker_id, SPEC, "token").reference)).environ()
    assert "secret" not in "".join(env.values())
    directory = pid_file(tmp_path, worker_id).parent
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    expected = {
        "HODEI_BROKER_URL": broker_url,
        "HODEI_WORKER_ID": str(worker_id),
        "HODEI_WORKER_TOKEN": "token",
        "HODEI_AGENT_HOME": str(directory),
        "HODEI_WORKER_BEAT": "0.3",
    }
    assert expected.items() <= env.items()


def test_creating_twice_gives_one(provider: ProcessProvider, worker_id: WorkerId) -> None:
    handles = [provider.create_worker(worker_id, SPEC, "token") for _ in range(2)]
    assert handles[0] == handles[1]
    assert agents(worker_id) == [int(handles[0].reference)]


def test_two_processes_that_create_at_once_give_one(
    provider: ProcessProvider, worker_id: WorkerId, processes: Processes, broker_url: str, tmp_path: Path
) -> None:
    home = tmp_path / "hodei"
    creators = [create_elsewhere(processes, home, broker_url, worker_id, "never") for _ in range(3)]
    assert [creator.wait() for creator in creators] == [0, 0, 0]
    assert len({creator.log() for creator in creators}) == 1
    assert len(agents(worker_id)) == 1


def test_a_worker_outlives_who_created_it(
    provider: ProcessProvider, worker_id: WorkerId, processes: Processes, broker_url: str, tmp_path: Path
) -> None:
    creator = create_elsewhere(processes, tmp_path / "hodei", broker_url, worker_id, "never")
    assert creator.wait() == 0
    creator.kill_all()
    assert provider.is_alive(worker_id)


def test_the_creator_killed_before_the_pid_file_leaves_no_orphan(
    provider: ProcessProvider, worker_id: WorkerId, processes: Processes, broker_url: str, tmp_path: Path
) -> None:
    """L27: a crash between create and record."""
    creator = create_elsewhere(processes, tmp_path / "hodei", broker_url, worker_id, "_write_pid_file")
    assert creator.wait() == -signal.SIGKILL
    assert not pid_file(tmp_path, worker_id).exists()
    (orphan,) = wait_for(lambda: agents(worker_id))
    assert [(found.worker_id, found.alive) for found in provider.find_workers()] == [(worker_id, True)]
    assert int(provider.create_worker(worker_id, SPEC, "token").reference) == orphan
    pid_file(tmp_path, worker_id).unlink()
    provider.destroy_worker(worker_id)
    assert not alive(orphan)


def test_the_creator_killed_while_it_launches_leaves_no_orphan(
    provider: ProcessProvider, worker_id: WorkerId, processes: Processes, broker_url: str, tmp_path: Path
) -> None:
    """L27: destroy waits for the launcher, which holds the lock of the dead creator."""
    creator = create_elsewhere(processes, tmp_path / "hodei", broker_url, worker_id, "never")

    def launcher() -> int | None:
        for process in psutil.process_iter():
            try:
                if process.environ().get("HODEI_WORKER_ID") == str(worker_id):
                    process.suspend()
                    return process.pid
            except psutil.Error:
                continue
        return None

    launched = wait_for(launcher)
    assert launched is not None
    creator.kill_main()
    os.kill(launched, signal.SIGCONT)
    provider.destroy_worker(worker_id)
    assert [found for found in provider.find_workers() if found.worker_id == worker_id] == []
    assert agents(worker_id) == []


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


def test_a_worker_that_cannot_be_started_says_so(broker_url: str, worker_id: WorkerId, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ProviderError, match="its agent cannot be started in"):
        ProcessProvider(tmp_path / "file", broker_url).create_worker(worker_id, SPEC, "token")


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
