"""Celery's processes (worker, beat, Flower) as real child processes of a test."""

import socket
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

from sagas.cli.processes import free_port
from tests.harness.processes import ROOT, Process, Processes
from tests.harness.wait import wait_for

CELERY = (sys.executable, "-m", "celery")
WORKER_START = 30.0
"""Seconds; a worker takes 1.1 to 1.5 s, but the machine is shared."""


@dataclass(frozen=True)
class WorkerOptions:
    """How a worker is started.

    `queues=None` leaves `-Q` to the app. `env` is added to the environment of the test. `cwd=None` is the test's
    directory (the project root is importable anyway). `name` becomes `name@host`. `wrapper` is a command that runs it.
    """

    app: str = "tasks"
    queues: Iterable[str] | None = None
    concurrency: int = 1
    pool: str = "prefork"
    name: str | None = None
    env: Mapping[str, str] = field(default_factory=dict)
    log_level: str = "INFO"
    arguments: tuple[str, ...] = ()
    cwd: Path | None = None
    wrapper: tuple[str, ...] = ()

    def command(self, name: str) -> list[str]:
        """The command line."""
        node = ["-n", nodename(name), "-c", str(self.concurrency), "-P", self.pool, "-l", self.log_level]
        queues = [] if self.queues is None else ["-Q", ",".join(self.queues)]
        return [*self.wrapper, *CELERY, "-A", self.app, "worker", *node, *queues, *self.arguments]


class WorkerProcess(Process):
    """One Celery worker: the main process and its pool."""

    options: WorkerOptions

    @property
    def nodename(self) -> str:
        """The node's name in Celery, `name@host`."""
        return nodename(self.name)

    def wait_ready(self, timeout: float = WORKER_START) -> None:
        """Wait until the worker consumes (its own log line); AssertionError with its log if it ends before."""
        self.wait_for_log(f"{self.nodename} ready.", timeout)

    def restart(self) -> None:
        """Start again under the same name, and wait until it is ready."""
        super().restart()
        self.wait_ready()


@dataclass(frozen=True)
class System:
    """The processes of one running system; a test may kill, pause and restart each of them."""

    steps: WorkerProcess
    control: WorkerProcess
    beat: Process


class CeleryProcesses:
    """Starts Celery's processes of one test; `env` is given to each of them (the servers' URLs)."""

    def __init__(self, processes: Processes, env: Mapping[str, str]) -> None:
        self.processes = processes
        self.env = dict(env)

    def worker(self, options: WorkerOptions, wait: bool = True) -> WorkerProcess:
        """Start a worker and (`wait`) return when it consumes; without a name it is called `w1`, `w2`, ..."""
        name = options.name or f"w{1 + sum(isinstance(p, WorkerProcess) for p in self.processes.started)}"
        env = self.processes.environment({**self.env, **options.env})
        worker = WorkerProcess(name, options.command(name), self.processes.directory, env, options.cwd)
        worker.options = options
        self.processes.add(worker)
        if wait:
            worker.wait_ready()
        return worker

    def system(self, app: str = "tasks", concurrency: int = 2, env: Mapping[str, str] | None = None) -> "System":
        """The shipped set-up: a worker of the steps, a small one of the engine's own messages, and a beat."""
        steps = WorkerOptions(app, ("steps", "compensations"), concurrency, name="steps", env=env or {})
        control = WorkerOptions(app, ("control", "events", "logs"), name="control", env=env or {})
        workers = [self.worker(options, wait=False) for options in (steps, control)]
        beat = self.beat(app, env)
        for worker in workers:
            worker.wait_ready()
        return System(workers[0], workers[1], beat)

    def beat(
        self,
        app: str = "tasks",
        env: Mapping[str, str] | None = None,
        name: str = "beat",
        arguments: tuple[str, ...] = (),
    ) -> Process:
        """Start a beat (its schedule file in the test's directory) and wait until it has begun."""
        schedule = str(self.processes.directory / f"{name}-schedule")
        command = [*CELERY, "-A", app, "beat", "-l", "INFO", "-s", schedule, "--pidfile=", *arguments]
        beat = self.processes.start(name, command, {**self.env, **(env or {})})
        beat.wait_for_log("beat: Starting...")
        return beat

    def flower(self, app: str = "tasks", env: Mapping[str, str] | None = None, arguments: tuple[str, ...] = ()) -> str:
        """Start Flower in the project root (which has `flowerconfig.py`) and return its URL when it answers."""
        port = free_port()
        command = [*CELERY, "-A", app, "flower", "--address=127.0.0.1", f"--port={port}", *arguments]
        flower = self.processes.start("flower", command, {**self.env, **(env or {})}, cwd=ROOT)
        url = f"http://127.0.0.1:{port}"
        wait_for(lambda: _http_answers(flower, f"{url}/healthcheck"), WORKER_START, flower.tail)
        return url


def nodename(name: str) -> str:
    """`name@host`, as the worker calls itself."""
    return name if "@" in name else f"{name}@{socket.gethostname()}"


def _http_answers(process: Process, url: str) -> bool:
    assert process.running(), f"{process.name} ended:\n{process.tail()}"
    try:
        with urlopen(url, timeout=5) as response:
            return bool(response.status == 200)
    except (URLError, ConnectionError, TimeoutError):
        return False
