"""Processes, ports and sockets of this machine: who is it, is it alive, stop it, is this free."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import signal
import socket
import tempfile
from dataclasses import dataclass
from pathlib import Path

import psutil

from sagas.errors import ConfigurationError

# The smallest limit of the systems we run on (macOS); Linux has 107. The longest name we put there follows.
SOCKET_PATH_LIMIT = 103
LONGEST_SOCKET_NAME = "supervisor.sock.0000000"
NOBODY_UID = 65534


@dataclass(frozen=True)
class Identity:
    """A process that cannot be mistaken for a later one with the same pid."""

    pid: int
    started: float

    @classmethod
    def of(cls, pid: int) -> Identity | None:
        """The identity of a live process, None if there is none."""
        with contextlib.suppress(psutil.Error):
            process = psutil.Process(pid)
            if process.status() != psutil.STATUS_ZOMBIE:
                return cls(pid, process.create_time())
        return None

    def process(self) -> psutil.Process | None:
        """The process itself while it lives; a zombie is dead, a later process with this pid is another."""
        with contextlib.suppress(psutil.Error):
            process = psutil.Process(self.pid)
            # The kernel's clock ticks 100 times a second, and a written float may be rounded.
            if abs(process.create_time() - self.started) < 0.05 and process.status() != psutil.STATUS_ZOMBIE:
                return process
        return None

    def is_alive(self) -> bool:
        return self.process() is not None


def stop_process(process: psutil.Process, sig: int = signal.SIGTERM, patience: float = 10.0) -> None:
    """Ask a process to stop, wait `patience` seconds, then kill it. Fine if it is gone already."""
    with contextlib.suppress(psutil.NoSuchProcess):
        process.send_signal(sig)
    if not gone([process], patience):
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
        gone([process], 5.0)


def gone(processes: list[psutil.Process], timeout: float) -> bool:
    """Wait at most `timeout` seconds until all are dead (zombies of others count as dead)."""
    _, rest = psutil.wait_procs(processes, timeout=0)
    waited = 0.0
    while rest and waited < timeout:
        _, rest = psutil.wait_procs(rest, timeout=0.05)
        waited += 0.05
        rest = [p for p in rest if Identity.of(p.pid) is not None]
    return not rest


def working_directory(process: psutil.Process) -> Path | None:
    """Where a process works: what tells a server of ours apart when it has overwritten its command line."""
    with contextlib.suppress(psutil.Error, OSError):
        return Path(process.cwd())
    return None


def free_port() -> int:
    """A TCP port of 127.0.0.1 that nobody uses at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def require_free_port(port: int, purpose: str) -> int:
    """The same port. Raises ConfigurationError if it cannot be listened on."""
    if (trouble := port_trouble(port)) is not None:
        raise ConfigurationError(f"port {port} for {purpose} cannot be used: {trouble}")
    return port


def port_trouble(port: int) -> str | None:
    """Why `port` of 127.0.0.1 cannot be listened on; None if it can."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            return error.strerror or str(error)
    return None


def socket_directory(directory: Path) -> Path:
    """Where Unix sockets of `directory` go: itself, or a short private one where the path would be too long."""
    short = _short_directory(directory)
    if short is None:
        return directory
    short.mkdir(mode=0o700, exist_ok=True)
    # Somebody else may have made it before us, as a link to a place of theirs.
    if short.is_symlink() or short.stat().st_uid not in (os.geteuid(), NOBODY_UID):
        raise ConfigurationError(f"{short} belongs to somebody else; remove it, or set HODEI_HOME to a shorter path")
    return short


def forget_socket_directory(directory: Path) -> None:
    """Remove the short directory that `socket_directory` may have made, and stale sockets in it."""
    short = _short_directory(directory)
    if short is not None and not short.is_symlink():
        shutil.rmtree(short, ignore_errors=True)


def _short_directory(directory: Path) -> Path | None:
    if _fits(directory):
        return None
    name = f"hodei-{os.geteuid()}-{hashlib.sha256(os.fsencode(directory)).hexdigest()[:12]}"
    short = Path(tempfile.gettempdir()) / name
    return short if _fits(short) else Path("/tmp") / name


def _fits(directory: Path) -> bool:
    return len(os.fsencode(directory / LONGEST_SOCKET_NAME)) <= SOCKET_PATH_LIMIT
