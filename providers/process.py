"""Workers that are child processes of this host: `python -m agent`, each in a session of its own.

What exists is what runs (found by the environment variables that its processes carry) and its directory,
`<home>/agents/<worker id>`; the pid file in it saves looking. So nothing is lost by a crash between creating and
recording (L27). A job is found by its worker's id in its environment or by its session: one that gives up both on
purpose gets away, for a process is no sandbox.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import psutil

from sagas.jobs.ports import ProviderError, WorkerHandle
from sagas.jobs.types import WorkerId, WorkerSpec

ROOT = Path(__file__).resolve().parent.parent
WORKER, AGENT_HOME, ASSIGNMENT = "HODEI_WORKER_ID", "HODEI_AGENT_HOME", "HODEI_ASSIGNMENT_ID"
HANDED_ON = ("PATH", "HOME", "USER", "SHELL", "LANG", "TZ", "TMPDIR", "VIRTUAL_ENV", "COVERAGE_PROCESS_CONFIG")
"""What agents find of their maker's environment besides HODEI_*; the last: they are measured where their maker is."""
LOCKS = 256  # files, so that they need not be removed


class ProcessProvider:
    """Creates and destroys agents on this host; `home` is HODEI_HOME, `beat` the agents' heartbeat in seconds.

    A destroyed agent has `grace` seconds to end by itself.
    """

    LOCK_TIMEOUT = 60.0  # seconds that a create or destroy waits for another one of the same worker
    KILL_TIMEOUT = 10.0  # seconds after which what is still there cannot be killed

    def __init__(self, home: Path, broker_url: str, beat: float = 5.0, grace: float = 8.0) -> None:
        self._agents = home.resolve() / "agents"
        self._broker_url = broker_url
        self._beat = beat
        self._grace = grace

    def create_worker(self, worker_id: WorkerId, spec: WorkerSpec, token: str) -> WorkerHandle:
        """Start the worker's agent unless it runs. Raises ProviderError if it cannot be started."""
        directory = self._directory(worker_id)
        try:
            with self._lock(worker_id) as lock:
                agent = self._find_agent(worker_id)
                if agent is None:
                    directory.mkdir(parents=True, exist_ok=True, mode=0o700)
                    agent = psutil.Process(self._launch(worker_id, token, lock))
                self._write_pid_file(worker_id, agent)
        except (OSError, psutil.Error, subprocess.SubprocessError) as error:
            raise ProviderError(f"worker {worker_id}: its agent cannot be started in {directory}: {error}") from error
        return WorkerHandle(worker_id, str(agent.pid), alive=True)

    def destroy_worker(self, worker_id: WorkerId) -> None:
        """SIGTERM to the agent, then SIGKILL for all that is left, its jobs included; then its directory.

        Raises ProviderError if something of it is left.
        """
        try:
            with self._lock(worker_id):
                sessions = self._sessions(worker_id)
                agent = self._find_agent(worker_id)
                if agent is not None:
                    with contextlib.suppress(psutil.NoSuchProcess):
                        agent.terminate()
                    psutil.wait_procs([agent], timeout=self._grace)
                if left := self._kill_all(worker_id, sessions):
                    raise ProviderError(f"worker {worker_id}: cannot be killed: pids {left}")
                with contextlib.suppress(FileNotFoundError):
                    shutil.rmtree(self._directory(worker_id))
        except (OSError, psutil.Error) as error:
            raise ProviderError(f"worker {worker_id}: cannot be destroyed: {error}") from error

    def find_workers(self) -> Sequence[WorkerHandle]:
        """Every worker of which a process or a directory is left."""
        found: dict[WorkerId, WorkerHandle] = {}
        for path in self._agents.glob("*-*"):
            with contextlib.suppress(ValueError):
                found[WorkerId(path.name)] = WorkerHandle(WorkerId(path.name), "", alive=False)
        for process, env in _living():
            if Path(env.get(AGENT_HOME, "")).parent != self._agents:
                continue
            worker_id, is_agent = WorkerId(env[WORKER]), ASSIGNMENT not in env
            if is_agent or worker_id not in found:
                found[worker_id] = WorkerHandle(worker_id, str(process.pid), alive=is_agent)
        return list(found.values())

    def is_alive(self, worker_id: WorkerId) -> bool:
        """True while the worker's agent runs."""
        return self._find_agent(worker_id) is not None

    def check(self) -> None:
        """Whether the agents' directory can be written to. Raises ProviderError."""
        try:
            self._agents.mkdir(parents=True, exist_ok=True)
            (self._agents / ".check").touch()
        except OSError as error:
            raise ProviderError(f"no worker can be made in {self._agents}: {error.strerror}") from error

    def _directory(self, worker_id: WorkerId) -> Path:
        return self._agents / str(worker_id)

    @contextlib.contextmanager
    def _lock(self, worker_id: WorkerId) -> Iterator[int]:
        """One create or destroy of a worker at a time, over all processes of this host."""
        path = self._agents / ".locks" / f"{worker_id.int % LOCKS:02x}"
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            self._take(lock)
            yield lock
        finally:
            os.close(lock)

    def _take(self, lock: int) -> None:
        """Raises TimeoutError when somebody has held the lock for longer than a create or destroy takes."""
        deadline = time.monotonic() + self.LOCK_TIMEOUT
        while True:
            try:
                return fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise TimeoutError("another create or destroy of it does not end") from None
                time.sleep(0.02)

    def _launch(self, worker_id: WorkerId, token: str, lock: int) -> int:
        """The pid of a new agent. The launcher holds the lock too: it stays locked if we die in here."""
        command = [sys.executable, "-m", "providers.launch", str(lock)]
        started = subprocess.run(
            command,
            cwd=ROOT,
            env=self._environment(worker_id, token),
            pass_fds=(lock,),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=30,
            check=True,
            start_new_session=True,
        )
        return int(started.stdout)

    def _environment(self, worker_id: WorkerId, token: str) -> dict[str, str]:
        """Chosen, not copied: an agent holds the broker's credentials and no others."""
        own = {name: value for name, value in os.environ.items() if name in HANDED_ON or name.startswith("LC_")}
        hodei = {name: value for name, value in os.environ.items() if name.startswith("HODEI_")}
        hodei.pop("HODEI_DATABASE_URL", None)
        return {
            **own,
            **hodei,
            "HODEI_BROKER_URL": self._broker_url,
            WORKER: str(worker_id),
            "HODEI_WORKER_TOKEN": token,
            AGENT_HOME: str(self._directory(worker_id)),
            "HODEI_WORKER_BEAT": f"{self._beat:g}",
        }

    def _write_pid_file(self, worker_id: WorkerId, agent: psutil.Process) -> None:
        path = self._directory(worker_id) / "agent.pid"
        fresh = path.with_suffix(".new")
        data = {"pid": agent.pid, "started": agent.create_time(), "worker_id": str(worker_id)}
        fresh.write_text(json.dumps(data), encoding="utf-8")
        fresh.replace(path)

    def _read_pid_file(self, worker_id: WorkerId) -> dict[str, Any]:
        try:
            data: dict[str, Any] = json.loads((self._directory(worker_id) / "agent.pid").read_text(encoding="utf-8"))
        except (FileNotFoundError, ValueError):
            return {}
        return data

    def _find_agent(self, worker_id: WorkerId) -> psutil.Process | None:
        """By the pid file, or else among all processes."""
        record = self._read_pid_file(worker_id)
        with contextlib.suppress(psutil.Error, KeyError):
            process = psutil.Process(record["pid"])
            if process.create_time() == record["started"] and self._is_of(process.environ(), worker_id):
                return process
        for process, env in _living():
            if self._is_of(env, worker_id) and ASSIGNMENT not in env:
                return process
        return None

    def _is_of(self, env: Mapping[str, str], worker_id: WorkerId) -> bool:
        return env.get(WORKER) == str(worker_id) and env.get(AGENT_HOME) == str(self._directory(worker_id))

    def _kill_all(self, worker_id: WorkerId, sessions: set[int]) -> list[int]:
        """SIGKILL the worker's processes and all in `sessions` until there are none; the pids of those that stay."""
        deadline = time.monotonic() + self.KILL_TIMEOUT
        while True:
            sessions |= self._sessions(worker_id)
            left = [p for p, env in _living() if self._is_of(env, worker_id) or _session(p.pid) in sessions]
            if not left or time.monotonic() > deadline:
                return [process.pid for process in left]
            for process in left:
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.kill()
            psutil.wait_procs(left, timeout=min(0.5, self.KILL_TIMEOUT))

    def _sessions(self, worker_id: WorkerId) -> set[int]:
        """The sessions that are this worker's alone: led by a process of its own, or by one that has ended.

        Not the one of somebody's shell, in which an agent was started by hand.
        """
        own = {process.pid for process, env in _living() if self._is_of(env, worker_id)}
        sessions = {session for pid in own if (session := _session(pid)) is not None}
        return {session for session in sessions if session in own or _has_ended(session)}


def _living() -> Iterator[tuple[psutil.Process, Mapping[str, str]]]:
    """The processes of this host that we may look into, with their environment; not the ended ones."""
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            if process.status() != psutil.STATUS_ZOMBIE:
                yield process, process.environ()


def _session(pid: int) -> int | None:
    try:
        return os.getsid(pid)
    except OSError:
        return None


def _has_ended(pid: int) -> bool:
    try:
        return bool(psutil.Process(pid).status() == psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return True
