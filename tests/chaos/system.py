"""The system under chaos: servers of its own, real workers, beat, and a supervisor that starts again what exits."""

import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg2

from sagas import SagaClient
from tests.harness.celery_nodes import CeleryProcesses, WorkerOptions, WorkerProcess
from tests.harness.database import Databases, Query
from tests.harness.effects import URL_VARIABLE, Effects
from tests.harness.processes import Process, Processes
from tests.harness.servers import BrokerServer, PostgresServer

CONTROL = ("control", "events", "logs")
MODULE = "tests.chaos.sagas"
QUICK = ("--without-mingle", "--without-gossip")
"""As `hodei up` starts its workers."""
LIVE_CLAIMS = """
SELECT claim_pid, saga_id::text, step_name, phase, attempt_id::text FROM saga_steps
WHERE lease_until IS NOT NULL AND claim_pid IS NOT NULL ORDER BY lease_until
"""


@dataclass(frozen=True)
class Servers:
    """What all runs of one program share."""

    postgres: PostgresServer
    effects: PostgresServer
    broker: BrokerServer
    databases: Databases


@contextmanager
def servers() -> Iterator[Servers]:
    """Start them; at the end they are stopped and their data deleted."""
    started = (PostgresServer(), PostgresServer(), BrokerServer())
    with ExitStack() as stack:
        for server in started:
            stack.callback(server.remove)
            server.start()
        yield Servers(*started, Databases(started[0]))


class System:
    """One fresh system: database, flushed broker, two step workers, a control worker, a beat."""

    def __init__(self, shared: Servers, directory: Path, env: dict[str, str], concurrency: int) -> None:
        self.servers = shared
        self.database_url = shared.databases.create("full")
        self.query = Query(self.database_url)
        self.effects = Effects(shared.effects.url("postgres"))
        self.effects.prepare()
        shared.broker.flush()
        self.env = {
            "HODEI_DATABASE_URL": self.database_url,
            "HODEI_BROKER_URL": shared.broker.url,
            "HODEI_SAGA_MODULES": MODULE,
            URL_VARIABLE: self.effects.url,
            **env,
        }
        self.processes = Processes(directory)
        self.celery = CeleryProcesses(self.processes, self.env)
        self.client = SagaClient(shared.broker.url, database_url=self.database_url)
        self.concurrency = concurrency
        self.down: set[str] = set()
        """Names of processes that are meant to be dead for now."""
        self.paused: set[str] = set()
        self.restarts = 0
        """Processes that ended by themselves and were started again."""
        self._due: list[tuple[float, Any]] = []

    def start(self, workers: int = 2, twice: bool = False, wrapper: tuple[str, ...] = ()) -> None:
        """Start every process, and wait until the workers consume; `twice`: two control workers and two beats.

        `wrapper` is a command that runs each worker of the steps.
        """
        queues = ("steps", "compensations")
        names = [f"steps{number}" for number in range(1, workers + 1)]
        options = [
            WorkerOptions("tasks", queues, self.concurrency, name=name, arguments=QUICK, wrapper=wrapper)
            for name in names
        ]
        controls = ("control", "control2") if twice else ("control",)
        options += [WorkerOptions("tasks", CONTROL, name=name, arguments=QUICK) for name in controls]
        started = [self.celery.worker(option, wait=False) for option in options]
        self.step_workers, self.controls = started[:workers], started[workers:]
        self.beats = [self.celery.beat(name=name) for name in (("beat", "beat2") if twice else ("beat",))]
        for worker in started:
            worker.wait_ready(60)

    @property
    def all(self) -> list[Process]:
        return [*self.step_workers, *self.controls, *self.beats]

    def later(self, seconds: float, action: Any) -> None:
        """Call `action` in `seconds`, from `tend`."""
        self._due.append((time.monotonic() + seconds, action))

    def pending(self) -> bool:
        """Whether something is still to be called later."""
        return bool(self._due)

    def tend(self, seconds: float = 0.0) -> None:
        """For `seconds`: do what is due, and start again what has ended by itself, as `hodei up` does."""
        until = time.monotonic() + seconds
        while True:
            now = time.monotonic()
            due = [one for one in self._due if one[0] <= now]
            self._due = [one for one in self._due if one[0] > now]
            for _, action in due:
                action()
            for process in self.all:
                if process.name not in self.down and not process.running():
                    self.restarts += 1
                    Process.restart(process)
            if time.monotonic() >= until:
                return
            time.sleep(0.05)

    def kill(self, process: Process, back_in: float, main_only: bool = False) -> None:
        """SIGKILL it, and start it again after so many seconds."""
        self.down.add(process.name)
        if main_only:
            process.kill_main()
        else:
            process.kill_all()

        def again() -> None:
            Process.restart(process)
            self.down.discard(process.name)

        self.later(back_in, again)

    def pause(self, process: Process, seconds: float) -> None:
        """SIGSTOP all of it, SIGCONT after so many seconds."""
        self.paused.add(process.name)
        process.pause()

        def again() -> None:
            process.resume()
            self.paused.discard(process.name)

        self.later(seconds, again)

    def free_workers(self) -> list[WorkerProcess]:
        """Step workers that run and are not paused."""
        return [w for w in self.step_workers if w.running() and w.name not in self.paused | self.down]

    def ask(self, statement: str, *values: object) -> list[dict[str, Any]] | None:
        """Rows, or None while PostgreSQL is away."""
        try:
            return self.query(statement, *values)
        except (psycopg2.OperationalError, psycopg2.InterfaceError):
            return None

    def claims(self) -> list[dict[str, Any]]:
        """Claims that are live now; none while PostgreSQL is away."""
        return self.ask(LIVE_CLAIMS) or []

    def stop(self) -> None:
        """Kill what is left and drop the database."""
        self.processes.stop()
        self.servers.postgres.resume()
        self.servers.postgres.start()
        self.servers.broker.resume()
        self.servers.broker.start()
        self.servers.databases.drop(self.database_url)


@contextmanager
def running(
    shared: Servers,
    *,
    concurrency: int = 3,
    workers: int = 2,
    twice: bool = False,
    wrapper: tuple[str, ...] = (),
    env: dict[str, str] | None = None,
    prepare: Any = None,
) -> Iterator[System]:
    """A started system in a directory of its own; `prepare(system)` is called before the processes start."""
    directory = Path(tempfile.mkdtemp(prefix="hodei-chaos-"))
    system = System(shared, directory, env or {}, concurrency)
    try:
        if prepare is not None:
            prepare(system)
        system.start(workers, twice, wrapper)
        yield system
    finally:
        system.stop()
        shutil.rmtree(directory, ignore_errors=True)
