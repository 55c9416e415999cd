"""A system of one test: its home, and `hodei` as a user calls it."""

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest

from sagas.cli.processes import forget_socket_directory

HODEI = [sys.executable, "-c", "from sagas.cli import main; main()"]
APP = "tests.cli.small_app"


class Hodei:
    """`hodei` in a home of its own."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.children: list[subprocess.Popen[Any]] = []
        self.env = {**os.environ, "HODEI_HOME": str(home)}
        for name in ("HODEI_DATABASE_URL", "HODEI_BROKER_URL", "HODEI_SAGA_MODULES"):
            self.env.pop(name, None)

    def start(self, *words: str, **env: str) -> subprocess.Popen[str]:
        """Begin a command; its output is kept."""
        pipe = subprocess.PIPE
        child = subprocess.Popen([*HODEI, *words], env={**self.env, **env}, text=True, stdout=pipe, stderr=pipe)
        self.children.append(child)
        return child

    def run(self, *words: str, **env: str) -> subprocess.CompletedProcess[str]:
        """Run a command to its end."""
        command = [*HODEI, *words]
        return subprocess.run(
            command, env={**self.env, **env}, text=True, capture_output=True, timeout=110, check=False
        )

    def ok(self, *words: str, **env: str) -> str:
        """Run a command that must succeed; its standard output."""
        done = self.run(*words, **env)
        assert done.returncode == 0, f"{words}: {done.stdout}{done.stderr}"
        return done.stdout

    def refused(self, *words: str, **env: str) -> str:
        """Run a command that must fail with one line; that line."""
        done = self.run(*words, **env)
        assert done.returncode == 1, f"{words}: {done.stdout}{done.stderr}"
        *_, last = done.stderr.splitlines()
        assert last.startswith("hodei: ") and "Traceback" not in done.stderr, done.stderr
        return last

    def up(self, *words: str, **env: str) -> dict[str, Any]:
        """`hodei up` on the small app; what it says as JSON."""
        found = json.loads(self.ok("up", "-A", APP, "--concurrency", "1", "--json", *words, **env))
        assert isinstance(found, dict)
        return found

    def processes(self) -> list[psutil.Process]:
        """Every live process of this home, in whatever session it is."""
        return [process for process in psutil.process_iter() if self._is_ours(process)]

    def _is_ours(self, process: psutil.Process) -> bool:
        with suppress(psutil.Error, OSError):
            if process.pid == os.getpid() or process.status() == psutil.STATUS_ZOMBIE:
                return False
            return Path(process.cwd()).is_relative_to(self.home) or process.environ().get("HODEI_HOME") == str(
                self.home
            )
        return False

    def kill(self, processes: list[psutil.Process]) -> None:
        """SIGKILL, all at once."""
        for process in processes:
            with suppress(psutil.NoSuchProcess):
                process.send_signal(signal.SIGKILL)
        psutil.wait_procs(processes, timeout=10)


@pytest.fixture
def home() -> Iterator[Path]:
    """A directory for HODEI_HOME; not pytest's own, whose path may be too long for a socket."""
    with tempfile.TemporaryDirectory(prefix="hodei-test-") as name:
        path = Path(name).resolve() / "home"
        yield path
        forget_socket_directory(path)
        forget_socket_directory(path / "postgres")


@pytest.fixture
def hodei(home: Path) -> Iterator[Hodei]:
    """`hodei` in `home`; whatever is left of it at the end is killed."""
    system = Hodei(home)
    yield system
    system.kill(system.processes())
    for child in system.children:
        child.kill()
        child.communicate(timeout=10)
