"""A real Docker engine for tests: whether one answers, the image of this checkout on it, and what is left there."""

import shutil
import subprocess
from contextlib import suppress

import docker
import pytest
from docker.errors import NotFound
from docker.models.containers import Container

from sagas.jobs.types import WorkerId
from tests.harness.processes import ROOT

IMAGE = "hodei-sagas:test"
HOME, WORKER = "hodei.home", "hodei.worker_id"


def needs_engine() -> None:
    """For a module's top: without an engine (that of DOCKER_HOST, or this machine's) all of it is skipped, in one line.

    Asked by the command, not by the SDK, which leaves the socket of a refused connection to the garbage collector.
    """
    if not shutil.which("docker"):
        pytest.skip("no docker command here", allow_module_level=True)
    try:
        answers = not subprocess.run(["docker", "info"], check=False, capture_output=True, timeout=10).returncode
    except subprocess.TimeoutExpired:
        answers = False
    if not answers:
        pytest.skip("no Docker engine answers (start one, or: .ci/engine up)", allow_module_level=True)


def build_image() -> str:
    """The image of this checkout as it is now; layers that have not changed are the engine's already."""
    command = [str(ROOT / ".ci" / "engine"), "image", IMAGE]
    built = subprocess.run(command, check=False, capture_output=True, text=True, timeout=620)
    assert built.returncode == 0, built.stderr
    return IMAGE


class Containers:
    """What the engine has, seen without any provider's help."""

    def __init__(self, engine: docker.DockerClient) -> None:
        self._engine = engine

    def of_worker(self, worker_id: WorkerId) -> list[Container]:
        """By the label, whatever state they are in."""
        return self._labelled(f"{WORKER}={worker_id}")

    def of_home(self, home: str) -> list[Container]:
        """All of one provider's."""
        return self._labelled(f"{HOME}={home}")

    def one(self, worker_id: WorkerId) -> Container:
        (container,) = self.of_worker(worker_id)
        return container

    def clear(self, *homes: str) -> None:
        """Remove what tests have left."""
        for home in homes:
            for container in self.of_home(home):
                with suppress(NotFound):
                    container.remove(force=True, v=True)

    def _labelled(self, label: str) -> list[Container]:
        found = self._engine.containers.list(all=True, filters={"label": label}, ignore_removed=True)
        return list(found)


def in_container(container: Container, *command: str) -> str:
    """The output of a command in it; AssertionError if it fails."""
    result = container.exec_run(list(command))
    assert result.exit_code == 0, result.output
    return str(result.output.decode())
