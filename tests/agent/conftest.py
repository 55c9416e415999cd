"""Fixtures of the agent's tests: a platform's side, and a running agent."""

from collections.abc import Iterator

import pytest

from tests.agent.platform_side import PlatformSide
from tests.harness.processes import Process, Processes


@pytest.fixture
def platform(broker_url: str, processes: Processes) -> Iterator[PlatformSide]:
    """The platform's side of one worker, whose agent does not run yet."""
    side = PlatformSide(broker_url, processes)
    yield side
    side.close()


@pytest.fixture
def agent(platform: PlatformSide) -> Process:
    """A running agent that has registered."""
    process = platform.start_agent()
    platform.wait("workers.register")
    platform.send("registered", worker_id=str(platform.worker_id))
    return process
