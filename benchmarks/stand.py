"""One run's surroundings: a fresh database, an empty broker, and the processes that a contender starts there."""

import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

from benchmarks.servers import Servers
from tests.harness.processes import Process, Processes


@dataclass(frozen=True)
class Options:
    """The same for every contender."""

    concurrency: int = 2
    prefetch: int = 1
    events: bool = False
    cache: Path = Path.home() / ".cache" / "hodei-bench"


@dataclass(frozen=True)
class Job:
    """What one saga does: so many trivial steps; `fails`: the last one fails and the others are undone."""

    steps: int = 4
    fails: bool = False

    @property
    def environment(self) -> dict[str, str]:
        return {"BENCH_STEPS": str(self.steps), "BENCH_FAILS": str(int(self.fails))}


class Stand:
    """Where one contender runs once."""

    def __init__(self, servers: Servers, options: Options, processes: Processes, database_url: str) -> None:
        self.servers = servers
        self.options = options
        self.processes = processes
        self.database_url = database_url
        self.ends = processes.directory / "ends"
        """Where the worker of a run for latency tells when each task has ended: a Unix socket."""

    def start(self, name: str, command: list[str], env: Mapping[str, str]) -> Process:
        """Start a process of this run; it does not outlive it."""
        return self.processes.start(name, command, env)

    def celery(
        self, name: str, app: str, words: list[str], env: Mapping[str, str], python: str = sys.executable
    ) -> Process:
        """Start `celery -A app ...`."""
        return self.start(name, [python, "-m", "celery", "-A", app, *words], env)


@contextmanager
def stand(servers: Servers, options: Options, database_url: str | None = None) -> Iterator[Stand]:
    """A fresh one; its processes are gone at the end, however it comes, and its database unless that was given."""
    servers.broker.flush()
    with tempfile.TemporaryDirectory(prefix="hodei-bench-") as directory:
        url = database_url or servers.databases.create("engine")
        processes = Processes(Path(directory))
        try:
            yield Stand(servers, options, processes, url)
        finally:
            processes.stop()
            if database_url is None:
                servers.databases.drop(url)


def cpu_seconds(pid: int) -> float:
    """User and system time of the process and all below it, those that have ended included."""
    total = 0.0
    root = psutil.Process(pid)
    for process in (root, *root.children(recursive=True)):
        try:
            times = process.cpu_times()
        except psutil.NoSuchProcess:
            continue
        total += times.user + times.system + times.children_user + times.children_system
    return total
