"""Fixtures of the platform on Docker workers: `from tests.platform.docker_system import docker_settings, home`, ...

With `containers`, `docker_engine` and `image` of `tests.providers.docker_fixtures`.
"""

import socket
from pathlib import Path

import pytest


@pytest.fixture
def home(processes) -> str:
    """As every process of this host calls its provider."""
    return f"{socket.gethostname()}:{(processes.directory / 'hodei').resolve()}"


@pytest.fixture
def engine_socket(tmp_path: Path) -> Path:
    """Where the test's processes look for the engine: take it away, and the engine is away."""
    path = tmp_path / "engine.sock"
    path.symlink_to("/var/run/docker.sock")
    return path


@pytest.fixture(autouse=True)
def docker_settings(containers, image, engine_socket, monkeypatch) -> None:
    """What the processes of this test find in their environment; the test's own platform, too."""
    monkeypatch.setenv("HODEI_PROVIDER", "docker")
    monkeypatch.setenv("HODEI_WORKER_IMAGE", image)
    monkeypatch.setenv("HODEI_DOCKER_NETWORK", "host")
    monkeypatch.setenv("HODEI_PROVIDER_CAPACITY", "3")
    monkeypatch.setenv("HODEI_WORKER_DEAD", "3")
    monkeypatch.setenv("DOCKER_HOST", f"unix://{engine_socket}")
