"""Fixtures of the Docker provider's tests, on a real engine: `from tests.providers.docker_fixtures import *`."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import docker
import pytest

from providers.docker import DockerProvider
from tests.harness.docker_engine import Containers, build_image

MakeProvider = Callable[..., DockerProvider]

__all__ = ["MakeProvider", "containers", "docker_engine", "home", "image", "make_docker", "provider"]


@pytest.fixture(scope="session")
def docker_engine() -> Iterator[docker.DockerClient]:
    """The engine: a module that uses it calls `needs_engine()` at its top."""
    engine = docker.from_env(timeout=30)
    yield engine
    engine.close()


@pytest.fixture(scope="session")
def image(docker_engine: docker.DockerClient) -> str:
    """The name of the image of this checkout."""
    return build_image()


@pytest.fixture
def home(tmp_path: Path) -> str:
    """The provider's name on the engine."""
    return f"test:{tmp_path}"


@pytest.fixture
def containers(docker_engine: docker.DockerClient, home: str) -> Iterator[Containers]:
    """What the engine has; what the test leaves is removed."""
    found = Containers(docker_engine)
    yield found
    found.clear(home)


@pytest.fixture
def make_docker(containers: Containers, home: str, image: str, broker_url: str) -> MakeProvider:
    """`make_docker(network=..., ...)`: a provider of the test's home, as each process of a host makes its own."""

    def make(**options: Any) -> DockerProvider:
        given = {"home": home, "broker_url": broker_url, "image": image, "network": "host", "beat": 0.3, **options}
        return DockerProvider(**given)

    return make


@pytest.fixture
def provider(make_docker: MakeProvider) -> DockerProvider:
    return make_docker()
