"""The session's servers: a PostgreSQL and a Valkey, which tests may kill and start again on the same address.

They are run as `hodei up` runs them (`sagas.cli.plans` says how), but by us: a test wants to crash and pause them.
"""

import os
import shutil
import signal as signals
import subprocess
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import psycopg2
import redis

from sagas.cli.plans import Plan, clean_environment, plan_postgres, plan_valkey
from sagas.cli.servers import DATABASE
from sagas.cli.unprivileged import as_user
from tests.harness.system import die_with_parent
from tests.harness.wait import wait_for

START = 60.0
"""Seconds for a server to answer, crash recovery included; it takes a fraction of one on an idle machine."""

POSTGRES_SETTINGS = {
    "fsync": "off",  # a killed process loses nothing by it; only a machine would
    "full_page_writes": "off",
    "max_connections": "200",
    # A killed client's backend must notice, even while it waits for a lock.
    "client_connection_check_interval": "500ms",
}


class Server:
    """A server process at an address of its own: started, killed, started again over the same directory."""

    def __init__(self, plan: Plan, settings: Sequence[str] = ()) -> None:
        self.plan = plan
        self.settings = settings
        self._popen: subprocess.Popen[bytes] | None = None

    def answers(self) -> bool:
        """Whether a client gets an answer now."""
        raise NotImplementedError

    def start(self) -> None:
        """Start the server and wait until it answers; nothing happens if it runs."""
        if self.running():
            return
        with self.plan.log.open("ab") as log:
            self._popen = subprocess.Popen(
                [*self.plan.argv, *self.settings],
                cwd=self.plan.directory,
                env=clean_environment(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=die_with_parent(self.plan.stop_signal),  # noqa: PLW1509 - it takes no lock
                **as_user(self.plan.user),
            )
        wait_for(self._up, START, lambda: f"{self.plan.name} answers:\n{self.log()[-2000:]}")

    def _up(self) -> bool:
        if not self.running():
            raise AssertionError(f"{self.plan.name} ended:\n{self.log()[-2000:]}")
        return self.answers()

    @property
    def pid(self) -> int:
        """The pid of the server's main process; AssertionError if it was never started."""
        assert self._popen is not None, "not started"
        return self._popen.pid

    def log(self) -> str:
        """All that the server has logged."""
        return self.plan.log.read_text(errors="replace")

    def running(self) -> bool:
        """Whether the main process is alive (a paused one is)."""
        return self._popen is not None and self._popen.poll() is None

    def stop(self) -> None:
        """An orderly, fast stop; clients are disconnected."""
        self._end(self.plan.stop_signal)

    def kill(self) -> None:
        """A crash: nothing is saved any more."""
        self._end(signals.SIGKILL)

    def pause(self) -> None:
        """Stop answering without closing a connection."""
        os.kill(self.pid, signals.SIGSTOP)

    def resume(self) -> None:
        """Undo `pause`; also safe on a server that was not paused."""
        if self.running():
            os.kill(self.pid, signals.SIGCONT)

    def remove(self) -> None:
        """Stop the server and delete its data."""
        self.resume()
        self.stop()
        shutil.rmtree(self.plan.directory, ignore_errors=True)

    def _end(self, signal: int) -> None:
        if self._popen is not None and self.running():
            self._popen.send_signal(signal)
            self._popen.wait(30)


class PostgresServer(Server):
    """PostgreSQL 18 on a Unix socket, without passwords."""

    def __init__(self) -> None:
        words = [word for name, value in POSTGRES_SETTINGS.items() for word in ("-c", f"{name}={value}")]
        super().__init__(plan_postgres(_directory("pg")), words)

    def url(self, database: str) -> str:
        """SQLAlchemy's URL of a database of this server, as its superuser."""
        return self.plan.url.replace(f"/{DATABASE}?", f"/{database}?", 1)

    def connect(self, database: str = "postgres") -> Any:
        """A psycopg2 connection in autocommit; the caller closes it."""
        connection = psycopg2.connect(libpq_url(self.url(database)), connect_timeout=5)
        connection.autocommit = True
        return connection

    def answers(self) -> bool:
        try:
            self.connect().close()
        except psycopg2.OperationalError:
            return False
        return True

    def kill(self) -> None:
        """A crash of the whole server; the next `start` goes through crash recovery."""
        self._end(signals.SIGQUIT)  # "immediate": like SIGKILL for postmaster and backends together, none left over

    def pause(self) -> None:
        """Stop the postmaster (no new connections) and its backends (no answers)."""
        self._signal_family(signals.SIGSTOP)

    def resume(self) -> None:
        """Undo `pause`; also safe on a server that was not paused."""
        self._signal_family(signals.SIGCONT)

    def crash_backend(self, pid: int) -> None:
        """SIGKILL one backend: PostgreSQL drops every connection and goes through crash recovery (PROTOCOL R13)."""
        ready = "database system is ready to accept connections"
        before = self.log().count(ready)
        os.kill(pid, signals.SIGKILL)
        wait_for(lambda: self.log().count(ready) > before and self.answers(), START, "crash recovery")

    def _signal_family(self, signal: int) -> None:
        # Backends lead sessions of their own, so no group reaches them.
        if self.running():
            family = [self.pid, *(child.pid for child in psutil.Process(self.pid).children(recursive=True))]
            for pid in family:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal)


class BrokerServer(Server):
    """Valkey on loopback TCP. It keeps nothing on disk: a kill (or stop) and start is a broker that lost its memory."""

    def __init__(self) -> None:
        super().__init__(plan_valkey(_directory("valkey")))

    @property
    def url(self) -> str:
        """kombu's URL of database 0."""
        return self.plan.url

    def client(self) -> "redis.Redis":
        """A client of database 0, for looking at queues and for flushing; the caller closes it."""
        return redis.Redis.from_url(self.url, socket_timeout=5)

    def answers(self) -> bool:
        with self.client() as client:
            try:
                return bool(client.ping())
            except redis.RedisError:
                return False

    def flush(self) -> None:
        """Forget everything, with connections kept."""
        with self.client() as client:
            client.flushall()


def libpq_url(url: str) -> str:
    """The URL as psycopg2 wants it, without SQLAlchemy's driver name."""
    return url.replace("postgresql+psycopg2://", "postgresql://", 1)


def _directory(name: str) -> Path:
    # Not in pytest's tmp_path: the server's user may not enter it, and socket paths must be short.
    return Path(tempfile.mkdtemp(prefix=f"hodei-{name}-"))
