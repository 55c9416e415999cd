"""A complete system of a plain `celery -A tasks worker` and `celery -A tasks beat`, with the order saga in it."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.harness.celery_fixtures import StartBeat, StartWorker
from tests.harness.celery_nodes import WorkerProcess
from tests.harness.processes import ROOT

PAYLOAD = {"sku": "A1", "card": "tok_1"}

Ledger = Callable[[], list[str]]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """All tests of the wheel run in one of xdist's processes, so that its environments are made once."""
    for item in items:
        if item.get_closest_marker("wheel"):
            item.add_marker(pytest.mark.xdist_group("wheel"))


@pytest.fixture
def ledger_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the doubles of the order saga keep their books."""
    monkeypatch.setenv("ORDER_LEDGER", str(tmp_path / "ledger"))
    return tmp_path / "ledger"


@pytest.fixture
def ledger(ledger_directory: Path) -> Ledger:
    """`ledger() -> ["charge", "refund", ...]`: what happened, book by book."""

    def read() -> list[str]:
        return [entry["word"] for entry in entries(ledger_directory)]

    return read


def entries(directory: Path) -> list[dict[str, Any]]:
    """All entries of all books, the books by name."""
    lines = [line for book in sorted(directory.glob("*.jsonl")) for line in book.read_text().splitlines()]
    return [json.loads(line) for line in lines]


@pytest.fixture
def order_system(ledger_directory: Path, start_worker: StartWorker, start_beat: StartBeat) -> WorkerProcess:
    """One worker and one beat; mark the module with `saga_modules("examples.order")`."""
    worker = start_worker(wait=False)
    start_beat()
    worker.wait_ready()
    return worker


# --- environments of their own, with the built wheel in them ------------------------------------------------------


@dataclass(frozen=True)
class Environment:
    """A virtual environment, in which nothing of this checkout is importable."""

    directory: Path

    def program(self, name: str) -> str:
        """The path of one of its programs (`python`, `celery`, `hodei`)."""
        return str(self.directory / "bin" / name)

    def run(self, *words: str, cwd: Path, **env: str) -> subprocess.CompletedProcess[str]:
        """Run one of its programs to its end."""
        command = [self.program(words[0]), *words[1:]]
        return subprocess.run(
            command, cwd=cwd, env=alone(**env), capture_output=True, text=True, timeout=60, check=False
        )

    def ok(self, *words: str, cwd: Path, **env: str) -> str:
        """Run a program that must succeed; its standard output."""
        done = self.run(*words, cwd=cwd, **env)
        assert done.returncode == 0, f"{words}: {done.stdout}{done.stderr}"
        return done.stdout


def alone(**env: str) -> dict[str, str]:
    """The environment of a process that must not see this checkout."""
    return {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "HODEI_"))} | env


def call(*command: str, cwd: Path = ROOT) -> None:
    """Run a command that must succeed."""
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=280, check=False)
    assert done.returncode == 0, f"{command}:\n{done.stdout}\n{done.stderr}"


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built wheel."""
    directory = tmp_path_factory.mktemp("dist")
    call(sys.executable, "-m", "build", "--wheel", "--outdir", str(directory), str(ROOT))
    (found,) = directory.glob("*.whl")
    return found


def make_environment(directory: Path, *packages: str) -> Environment:
    """A new virtual environment with these packages, at the pinned versions."""
    call(sys.executable, "-m", "venv", "--without-pip", str(directory))
    environment = Environment(directory)
    pip = (sys.executable, "-m", "pip", "--python", environment.program("python"), "install", "--quiet")
    call(*pip, "--disable-pip-version-check", "--constraint", str(ROOT / "constraints.txt"), *packages)
    return environment


@pytest.fixture(scope="session")
def server_environment(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Environment:
    """What an app with workers installs: `hodei-sagas[server]`."""
    return make_environment(tmp_path_factory.mktemp("server") / "venv", f"{wheel}[server]")


@pytest.fixture(scope="session")
def client_environment(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Environment:
    """What a client installs: the wheel, which brings celery and redis."""
    return make_environment(tmp_path_factory.mktemp("client") / "venv", str(wheel))
