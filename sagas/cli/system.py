"""The record of a running system in HODEI_HOME: who runs it, where it answers, and the lock of `up` and `down`."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from sagas.cli.processes import Identity
from sagas.errors import ConfigurationError


@dataclass(frozen=True)
class System:
    """What `system.json` says of a running system; `sagas.settings` reads the two URLs from it."""

    database_url: str
    broker_url: str
    flower_url: str | None
    supervisor_pid: int
    supervisor_started: float
    app: str
    nodes: list[str] = field(default_factory=list)
    embedded: list[str] = field(default_factory=list)

    @property
    def supervisor(self) -> Identity:
        return Identity(self.supervisor_pid, self.supervisor_started)


@dataclass(frozen=True)
class Home:
    """The directory of one system, and the files in it."""

    path: Path

    @classmethod
    def from_environment(cls) -> Home:
        """HODEI_HOME, or `.hodei` in the working directory."""
        return cls(Path(os.environ.get("HODEI_HOME") or ".hodei").expanduser().resolve())

    def make(self) -> None:
        """Make the directory and those in it, private to us."""
        try:
            for directory in (self.path, self.logs, self.beat.parent):
                directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigurationError(f"HODEI_HOME {self.path} cannot be used: {error.strerror}") from None

    @property
    def postgres(self) -> Path:
        return self.path / "postgres"

    @property
    def valkey(self) -> Path:
        return self.path / "valkey"

    @property
    def logs(self) -> Path:
        return self.path / "logs"

    @property
    def beat(self) -> Path:
        return self.path / "beat" / "schedule"

    @property
    def system_file(self) -> Path:
        return self.path / "system.json"

    @property
    def supervisor_file(self) -> Path:
        return self.path / "supervisor.json"

    def running(self) -> System | None:
        """The system that runs here, None if there is none (or only what a killed run has left)."""
        content = read_json(self.system_file)
        try:
            system = System(**content) if content else None
        except TypeError:
            return None
        return system if system is not None and system.supervisor.is_alive() else None

    def record(self, system: System) -> None:
        write_json(self.system_file, asdict(system))

    def supervisor(self) -> Identity | None:
        """The supervisor that was started last, dead or alive."""
        content = read_json(self.supervisor_file)
        return Identity(int(content["pid"]), float(content["started"])) if content else None

    def forget(self) -> None:
        """Take the records away: nothing runs here."""
        self.system_file.unlink(missing_ok=True)
        self.supervisor_file.unlink(missing_ok=True)

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Only one `up` or `down` at a time; the kernel frees the lock of a killed one."""
        with (self.path / "lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise ConfigurationError(f"another `hodei up` or `hodei down` is at work in {self.path}") from None
            yield


def read_json(file: Path) -> dict[str, Any]:
    """The object in a file; empty if the file is missing or not whole."""
    try:
        content = json.loads(file.read_text())
    except (FileNotFoundError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def write_json(file: Path, content: dict[str, Any]) -> None:
    """Write whole or not at all; URLs may hold a password, so nobody else may read."""
    fresh = file.with_suffix(".new")
    fresh.touch(mode=0o600)
    fresh.write_text(json.dumps(content, indent=2) + "\n")
    fresh.replace(file)
