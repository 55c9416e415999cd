"""pytest-celery without Docker: what its nodes ask of a container, answered by child processes."""

import os
import signal as signals
from contextlib import suppress
from subprocess import TimeoutExpired
from typing import Any

import celery
import kombu.pools
import psutil
from celery import Celery
from pytest_celery import CeleryTestBroker, CeleryTestSetup, CeleryTestWorker

from tests.harness.celery_nodes import WorkerProcess
from tests.harness.servers import BrokerServer


def signal_number(signal: str | int) -> int:
    """The number of a signal that is given as pytest-celery gives it: "SIGKILL" or 9."""
    return signal if isinstance(signal, int) else int(signals.Signals[signal])


class WorkerContainer:
    """The container of a worker node: a worker process."""

    def __init__(self, process: WorkerProcess) -> None:
        self.process = process
        self.name = process.name
        self._asked_to_stop = False

    @property
    def id(self) -> str:
        return str(self.process.main_pid)

    @property
    def status(self) -> str:
        return "running" if self.process.running() else "exited"

    @property
    def celeryconfig(self) -> dict[str, Any]:
        return {"url": self.process.env["HODEI_BROKER_URL"], "host_url": self.process.env["HODEI_BROKER_URL"]}

    def ready(self) -> bool:
        self.process.wait_ready()
        return True

    def logs(self) -> str:
        return self.process.log()

    def kill(self, signal: str | int = "SIGKILL") -> None:
        self._asked_to_stop = signal_number(signal) == signals.SIGTERM
        self.process.kill(signal_number(signal))

    def reload(self) -> None:
        """Nothing is cached: `status` and `logs` look each time."""

    def restart(self, timeout: float = 10) -> None:
        if self._asked_to_stop:  # a second SIGTERM would turn the warm shutdown into a cold one
            with suppress(TimeoutExpired):
                self.process.wait(timeout)
        if self.process.running():
            self.process.stop(timeout)
        self._asked_to_stop = False
        self.process.restart()

    def teardown(self) -> None:
        self.process.kill_all()

    def version(self) -> str:
        return celery.__version__

    def log_level(self) -> str:
        return self.process.options.log_level

    def worker_name(self) -> str:
        return self.process.name

    def worker_queue(self) -> str:
        """The first of the worker's queues; Celery's default name where the app decides."""
        return next(iter(self.process.options.queues or ("celery",)))


class BrokerContainer:
    """The container of the broker node: the session's Valkey."""

    name = "valkey"

    def __init__(self, server: BrokerServer) -> None:
        self.server = server

    @property
    def id(self) -> str:
        return str(self.server.pid)

    @property
    def status(self) -> str:
        return "running" if self.server.running() else "exited"

    @property
    def celeryconfig(self) -> dict[str, Any]:
        return {"url": self.server.url, "host_url": self.server.url, "vhost": "0"}

    def ready(self) -> bool:
        return self.server.answers()

    def logs(self) -> str:
        return self.server.log()

    def kill(self, signal: str | int = "SIGKILL") -> None:
        if signal_number(signal) == signals.SIGKILL:
            self.server.kill()
        elif signal_number(signal) == signals.SIGTERM:
            self.server.stop()
        else:
            os.kill(self.server.pid, signal_number(signal))

    def reload(self) -> None:
        """Nothing is cached."""

    def restart(self, timeout: float = 10) -> None:
        self.server.stop()
        self.server.start()
        # kombu's pools are the process's, by URL: the next test's app would be given a connection to the old server.
        kombu.pools.reset()

    def teardown(self) -> None:
        self.server.start()  # the session's server outlives the test


class ProcessWorker(CeleryTestWorker):
    """pytest-celery's worker node over a worker process; `process` has all that a container cannot do."""

    def __init__(self, process: WorkerProcess, app: Celery | None = None) -> None:
        super().__init__(WorkerContainer(process), app)
        self.process = process

    def hostname(self) -> str:
        """The node's name in Celery."""
        return self.process.nodename

    def get_running_processes_info(
        self, columns: list[str] | None = None, filters: dict[str, str] | None = None
    ) -> list[dict[str, Any]]:
        """The processes of the worker's session, as pytest-celery has them: psutil's columns, exact filters."""
        processes = (psutil.Process(pid) for pid in self.process.session_pids())
        rows = [process.as_dict(columns) for process in processes]
        return [row for row in rows if all(row.get(name) == value for name, value in (filters or {}).items())]


class ProcessBroker(CeleryTestBroker):
    """pytest-celery's broker node over the session's Valkey."""

    def __init__(self, server: BrokerServer, app: Celery | None = None) -> None:
        super().__init__(BrokerContainer(server), app)
        self.server = server


class ProcessSetup(CeleryTestSetup):
    """pytest-celery's setup; its app (in the test's process) keeps results in the broker's Valkey."""

    @classmethod
    def config(cls, celery_worker_cluster_config: dict[str, Any]) -> dict[str, Any]:
        """The configuration of the test's own app."""
        config: dict[str, Any] = super().config(celery_worker_cluster_config)
        return {**config, "result_backend": config["broker_url"]}
