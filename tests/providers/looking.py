"""What the tests see of a worker, without asking its provider."""

from pathlib import Path

import psutil

from sagas.jobs.types import WorkerId


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
