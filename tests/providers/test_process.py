"""The process provider creates: one worker for one id, whoever asks, and dies, at what moment."""

import json
import os
import signal
import stat
import sys
from pathlib import Path

import psutil
import pytest

from providers.process import ProcessProvider
from sagas.jobs.ports import ProviderError, WorkerProvider
from sagas.jobs.types import WorkerId
from tests.harness.processes import Process, Processes
from tests.harness.system import alive
from tests.harness.wait import wait_for
from tests.providers.conftest import SPEC
from tests.providers.looking import agents, pid_file

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


def create_elsewhere(processes: Processes, home: Path, broker_url: str, worker_id: WorkerId, kill_at: str) -> Process:
    """Another process that creates the worker, and is killed when it calls the method named."""
    command = [sys.executable, "-c", CREATOR, str(home), broker_url, str(worker_id), kill_at]
    return processes.start(f"creator-{len(processes.started)}", command)


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


def test_a_worker_that_cannot_be_started_says_so(broker_url: str, worker_id: WorkerId, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ProviderError, match="its agent cannot be started in"):
        ProcessProvider(tmp_path / "file", broker_url).create_worker(worker_id, SPEC, "token")
