"""What contenders share that need PostgreSQL alone: their processes in an environment of their own, and their rows."""

import time
from abc import abstractmethod
from functools import cached_property
from typing import Any, ClassVar

import psycopg2

from benchmarks.apps.driver import Driver
from benchmarks.contenders.base import Contender
from benchmarks.environments import python_of
from benchmarks.servers import named
from sagas.cli.plans import last_line
from tests.harness.processes import Process
from tests.harness.servers import libpq_url

PATIENCE = 60.0


class PostgresContender(Contender):
    """As many processes as others have children, each `python -m app role socket`; paused while they are held."""

    library: ClassVar[str]
    app: ClassVar[str]

    def start(self) -> None:
        self._python = python_of(self.library, self.stand.options.cache)
        self.workers: list[tuple[Process, Driver]] = []
        for number in range(self.stand.options.concurrency):
            # One after another: the first one makes the tables.
            self.workers.append(self.launch("worker", f"worker{number}"))
            self.workers[-1][1].call("ready")
        self.client: Driver | None = None

    def launch(self, role: str, name: str) -> tuple[Process, Driver]:
        """Start a process of that role. Raises RuntimeError if it does not come up."""
        path = str(self.stand.processes.directory / name)
        process = self.stand.start(name, [self._python, "-m", self.app, role, path], self.environment(role))
        try:
            return process, Driver(path, process.running)
        except RuntimeError as error:
            raise RuntimeError(f"{self.name}: {error}: {last_line(process.log_path)}") from None

    def environment(self, role: str) -> dict[str, str]:
        """Of a process of that role."""
        return {**self.job.environment, "BENCH_DATABASE_URL": libpq_url(named(self.stand.database_url, role))}

    def hold(self) -> None:
        for process, _ in self.workers:
            process.pause()

    def release(self) -> None:
        for process, _ in self.workers:
            process.resume()

    def pids(self) -> dict[str, list[int]]:
        return {"worker": [process.main_pid for process, _ in self.workers]}

    def close(self) -> None:
        for driver in (*(driver for _, driver in self.workers), self.client):
            if driver is not None:
                driver.close()
        self._connection.close()

    @cached_property
    def _connection(self) -> Any:
        connection = psycopg2.connect(libpq_url(named(self.stand.database_url, "bench")))
        connection.autocommit = True
        return connection

    def rows(self, statement: str, *values: object) -> list[tuple[Any, ...]]:
        """All rows of a statement."""
        with self._connection.cursor() as cursor:
            cursor.execute(statement, values or None)
            return list(cursor.fetchall())


class Enqueued(PostgresContender):
    """A client starts them, and their workers find them."""

    def submit(self, count: int) -> None:
        self.ask(count)
        self.started += count

    def ask(self, count: int) -> tuple[float, Any]:
        """Let the client start so many; when it asked for the last one, and that one's id."""
        assert self.client is not None
        begun, found = self.client.call("start", count)
        return float(begun), found

    def one(self) -> float:
        self.started += 1
        begun, started = self.ask(1)
        deadline = time.monotonic() + PATIENCE
        while (end := self.end_of(started)) is None:
            if time.monotonic() > deadline:
                raise TimeoutError(f"{self.name}: one has not ended within {PATIENCE:g} s")
            time.sleep(0.002)
        return end - begun

    @abstractmethod
    def end_of(self, started: Any) -> float | None:
        """When the one with that id ended, as its row says; None if it has not."""


class CalledDirectly(PostgresContender):
    """By direct calls: nothing waits in a queue, each process runs so many at a time."""

    at_once: ClassVar[int]
    _held = False

    @abstractmethod
    def ended(self) -> bool:
        """Whether all are at their ends, by their rows."""

    def hold(self) -> None:
        self._held = True

    def submit(self, count: int) -> None:
        self.started += count
        self._waiting = count
        if not self._held:
            self.release()

    def release(self) -> None:
        shares = len(self.workers)
        for number, (_, driver) in enumerate(self.workers):
            driver.begin("call", self._waiting // shares + (number < self._waiting % shares), self.at_once)

    def finished(self) -> bool:
        if not self.ended():
            return False
        for _, driver in self.workers:
            driver.end()
        return True

    def one(self) -> float:
        self.started += 1
        return float(self.workers[0][1].call("call", 1))
