"""DBOS on the same PostgreSQL: by its queue, and by direct calls, in as many processes as others have children."""

import time
from functools import cached_property
from typing import Any, ClassVar

import psycopg2

from benchmarks.apps.driver import Driver
from benchmarks.contenders.base import Contender, Wrong
from benchmarks.environments import python_of
from benchmarks.servers import named
from sagas.cli.plans import last_line
from tests.harness.processes import Process
from tests.harness.servers import libpq_url

FINAL = "SELECT count(*) FROM dbos.workflow_status WHERE status IN ('SUCCESS', 'ERROR')"
OF_ONE = "SELECT completed_at FROM dbos.workflow_status WHERE workflow_uuid = %s AND status IN ('SUCCESS', 'ERROR')"
ENDS = "SELECT status, count(*) FROM dbos.workflow_status GROUP BY status"
STEPS = "SELECT count(*), count(DISTINCT (workflow_uuid, function_id)) FROM dbos.operation_outputs"
PATIENCE = 60.0


class Dbos(Contender):
    """By direct calls: nothing waits in a queue, each process calls one workflow after another."""

    name = "dbos_direct"
    queued: ClassVar[bool] = False
    threads: ClassVar[int] = 1
    worker_concurrency: ClassVar[int] = 10
    polling: ClassVar[float] = 0.02

    def start(self) -> None:
        self._python = python_of("dbos", self.stand.options.cache)
        self._processes: list[Process] = []
        self._workers: list[Driver] = []
        for number in range(self.stand.options.concurrency):
            process, driver = self._launch("worker", f"worker{number}")
            self._processes.append(process)
            self._workers.append(driver)  # one after another: the first one makes the tables
            driver.call("ready")
        self._client: Driver | None = self._launch("client", "client")[1] if self.queued else None

    def _launch(self, role: str, name: str) -> tuple[Process, Driver]:
        path = str(self.stand.processes.directory / name)
        env = {
            **self.job.environment,
            "BENCH_DATABASE_URL": libpq_url(named(self.stand.database_url, role)),
            "BENCH_QUEUE": str(int(self.queued)),
            "BENCH_WORKER_CONCURRENCY": str(self.worker_concurrency),
            "BENCH_POLLING": str(self.polling),
        }
        process = self.stand.start(name, [self._python, "-m", "benchmarks.apps.dbos_app", role, path], env)
        try:
            return process, Driver(path, process.running)
        except RuntimeError as error:
            raise RuntimeError(f"{self.name}: {error}: {last_line(process.log_path)}") from None

    def hold(self) -> None:
        self._held = True

    def release(self) -> None:
        shares = len(self._workers)
        for number, driver in enumerate(self._workers):
            driver.begin("call", self._waiting // shares + (number < self._waiting % shares), self.threads)

    def submit(self, count: int) -> None:
        self.started += count
        self._waiting = count
        if not getattr(self, "_held", False):
            self.release()

    def finished(self) -> bool:
        if self._rows(FINAL)[0][0] < self.started:
            return False
        for driver in self._workers:
            driver.end()
        return True

    def one(self) -> float:
        self.started += 1
        return float(self._workers[0].call("call", 1))

    def check(self) -> None:
        end = "ERROR" if self.job.fails else "SUCCESS"
        each = 2 * self.job.steps - 1 if self.job.fails else self.job.steps
        ends, steps = dict(self._rows(ENDS)), self._rows(STEPS)[0]
        if ends != {end: self.started} or set(steps) != {each * self.started}:
            raise Wrong(f"{self.name}: workflows {ends}, steps {steps} instead of {each * self.started}")

    def pids(self) -> dict[str, list[int]]:
        return {"worker": [process.main_pid for process in self._processes]}

    def close(self) -> None:
        for driver in (*self._workers, self._client):
            if driver is not None:
                driver.close()
        self._connection.close()

    @cached_property
    def _connection(self) -> Any:
        connection = psycopg2.connect(libpq_url(named(self.stand.database_url, "bench")))
        connection.autocommit = True
        return connection

    def _rows(self, statement: str, *values: object) -> list[tuple[Any, ...]]:
        with self._connection.cursor() as cursor:
            cursor.execute(statement, values or None)
            return list(cursor.fetchall())


class DbosQueue(Dbos):
    """By its queue, which polls; the interval and the room of a worker are those with which it was fastest here."""

    name = "dbos_queue"
    queued = True

    def hold(self) -> None:
        for process in self._processes:
            process.pause()

    def release(self) -> None:
        for process in self._processes:
            process.resume()

    def submit(self, count: int) -> None:
        assert self._client is not None
        self._client.call("start", count)
        self.started += count

    def finished(self) -> bool:
        return bool(self._rows(FINAL)[0][0] == self.started)

    def one(self) -> float:
        assert self._client is not None
        begun, workflow_id = self._client.call("start", 1)
        self.started += 1
        deadline = time.monotonic() + PATIENCE
        while not (found := self._rows(OF_ONE, workflow_id)):
            if time.monotonic() > deadline:
                raise TimeoutError(f"{self.name}: a workflow has not ended within {PATIENCE:g} s")
            time.sleep(0.002)
        return found[0][0] / 1000 - float(begun)


class DbosDirectFailing(Dbos):
    """Failing at its last step, the others undone in the workflow's own code."""

    name = "dbos_direct_failing"
    fails = True
