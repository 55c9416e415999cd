"""The supervisor of a system: supervisord, on a configuration of ours, asked over its Unix socket."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import shlex
import signal
import subprocess
import sys
import time
import xmlrpc.client
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import psutil

from sagas.cli.embedded import last_line
from sagas.cli.processes import Identity, gone, socket_directory, stop_process, working_directory
from sagas.cli.programs import Program
from sagas.cli.system import Home, write_json
from sagas.errors import ConfigurationError

# The group of all processes that are no servers: started after these, stopped before them.
WORK = "work"
# A process that came up so often in one `up` does not come up.
MANY_STARTS = 3


def configuration(home: Home, programs: Iterable[Program], socket: Path) -> str:
    """supervisord's configuration. Servers have a lower priority than the group: first up, last down."""
    programs = list(programs)
    sections: dict[str, dict[str, Any]] = {
        "supervisord": {
            "nodaemon": "true",
            "logfile": home.logs / "supervisord.log",
            "logfile_maxbytes": "10MB",
            "logfile_backups": "1",
            "pidfile": home.path / "supervisord.pid",
            "childlogdir": home.logs,
            **({"user": "root"} if os.geteuid() == 0 else {}),
        },
        "unix_http_server": {"file": socket, "chmod": "0700"},
        "rpcinterface:supervisor": {
            "supervisor.rpcinterface_factory": "supervisor.rpcinterface:make_main_rpcinterface"
        },
        f"group:{WORK}": {"programs": ",".join(p.name for p in programs if not p.server), "priority": "900"},
        **{f"program:{p.name}": _section(p, priority) for priority, p in enumerate(programs, start=1)},
    }
    lines: list[str] = []
    for name, options in sections.items():
        lines += [f"[{name}]", *(f"{key} = {str(value).replace('%', '%%')}" for key, value in options.items()), ""]
    return "\n".join(lines)


def _section(program: Program, priority: int) -> dict[str, Any]:
    return {
        "command": shlex.join(program.argv),
        "priority": priority,
        "autostart": str(program.server).lower(),
        "autorestart": "true",
        "startsecs": "1",
        # Again and again: supervisord waits one second more before each try.
        "startretries": "1000000",
        "stopsignal": program.stop_signal,
        "stopwaitsecs": "10",
        "killasgroup": "true",  # a killed worker takes its pool with it
        "redirect_stderr": "true",
        "stdout_logfile": program.log,
        "stdout_logfile_maxbytes": "10MB",
        "stdout_logfile_backups": "2",
        **({"user": program.user} if program.user else {}),
    }


class Supervisor:
    """A running supervisord."""

    def __init__(self, home: Home) -> None:
        self._home = home
        self._socket = socket_directory(home.path) / "supervisor.sock"

    def start(self, programs: Iterable[Program], environment: dict[str, str]) -> Identity:
        """Start it and, through it, the servers; write down who it is. Raises ConfigurationError."""
        if importlib.util.find_spec("supervisor") is None:
            raise ConfigurationError("supervisor is not installed: pip install 'hodei-sagas[embedded]'")
        config = self._home.path / "supervisord.conf"
        config.touch(mode=0o600)
        config.write_text(configuration(self._home, programs, self._socket))
        log = self._home.logs / "supervisord.out"
        with log.open("wb") as out:
            child = subprocess.Popen(
                [sys.executable, "-m", "supervisor.supervisord", "-c", str(config)],
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                start_new_session=True,  # by its session what it started is found again, if it is killed
            )
        identity = Identity.of(child.pid)
        if identity is None:
            raise ConfigurationError(f"the supervisor did not start: {last_line(log)} (see {log})")
        write_json(self._home.supervisor_file, {"pid": identity.pid, "started": identity.started})
        self._wait_for_socket(child, log)
        return identity

    def _wait_for_socket(self, child: subprocess.Popen[bytes], log: Path) -> None:
        deadline = time.monotonic() + 30
        while True:
            with contextlib.suppress(OSError, xmlrpc.client.Error), self._rpc() as rpc:
                rpc.getPID()
                return
            if child.poll() is not None or time.monotonic() > deadline:
                raise ConfigurationError(f"the supervisor did not start: {last_line(log)} (see {log})")
            time.sleep(0.05)

    def start_work(self) -> None:
        """Start all processes that are no servers, without waiting for them."""
        with self._rpc() as rpc:
            rpc.startProcessGroup(WORK, False)

    def stop_work(self) -> None:
        """Stop all processes that are no servers and wait for it; fine if the supervisor does not answer."""
        with contextlib.suppress(OSError, xmlrpc.client.Error), self._rpc() as rpc:
            rpc.stopProcessGroup(WORK, True)

    def processes(self) -> dict[str, dict[str, Any]]:
        """By name what supervisord says of each process; empty if it does not answer."""
        with contextlib.suppress(OSError, xmlrpc.client.Error), self._rpc() as rpc:
            return {str(entry["name"]): entry for entry in rpc.getAllProcessInfo()}
        return {}

    def states(self) -> dict[str, str]:
        """By name the state of each process, in supervisord's words (RUNNING, BACKOFF, ...)."""
        return {name: str(entry["statename"]) for name, entry in self.processes().items()}

    @contextlib.contextmanager
    def _rpc(self) -> Iterator[Any]:
        from supervisor.xmlrpc import SupervisorTransport

        transport = SupervisorTransport(None, None, f"unix://{self._socket}")
        try:
            yield xmlrpc.client.ServerProxy("http://127.0.0.1", transport=transport).supervisor
        finally:
            transport.close()


class StartWatch:
    """Notices, while a system comes up, the process that dies again and again."""

    def __init__(self, supervisor: Supervisor) -> None:
        self._supervisor = supervisor
        self._starts: dict[str, set[int]] = {}

    def check(self) -> None:
        """Raises ConfigurationError with the last line of the log of a process that does not stay up."""
        for name, entry in self._supervisor.processes().items():
            starts = self._starts.setdefault(name, set())
            starts.add(int(entry["start"]))
            if entry["statename"] == "FATAL" or len(starts - {0}) >= MANY_STARTS:
                log = Path(entry["stdout_logfile"])
                raise ConfigurationError(f"{name} does not stay up: {last_line(log)} (see {log})")


def stop_leftovers(home: Home) -> None:
    """Stop the recorded supervisor, and whatever of it is left although it was killed itself."""
    supervisor = home.supervisor()
    if supervisor is None:
        return
    if (process := supervisor.process()) is not None:
        stop_process(process, signal.SIGTERM, patience=90.0)
    orphans = list(_session_of(supervisor, home))
    for orphan in orphans:
        # PostgreSQL's fast shutdown is SIGINT; to SIGTERM it would wait for its clients.
        with contextlib.suppress(psutil.Error):
            orphan.send_signal(signal.SIGINT if orphan.name() == "postgres" else signal.SIGTERM)
    if not gone(orphans, 10.0):
        for orphan in orphans:
            with contextlib.suppress(psutil.Error):
                orphan.kill()
        gone(orphans, 5.0)


def _session_of(supervisor: Identity, home: Home) -> Iterator[psutil.Process]:
    """The processes of the supervisor's session. Agents have sessions of their own and are not among them."""
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            if os.getsid(process.pid) != supervisor.pid or process.create_time() < supervisor.started - 0.05:
                continue
            if process.status() != psutil.STATUS_ZOMBIE and _belongs(process, home):
                yield process


def _belongs(process: psutil.Process, home: Home) -> bool:
    # A server overwrites its environment with its title, but works in its directory.
    directory = working_directory(process)
    if directory is not None and directory.is_relative_to(home.path):
        return True
    with contextlib.suppress(psutil.Error):
        return process.environ().get("HODEI_HOME") == str(home.path)
    return False
