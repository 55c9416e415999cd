"""Fixtures of the providers' tests."""

from pathlib import Path

import pytest

from providers.process import ProcessProvider
from sagas.jobs.types import WorkerId, WorkerSpec
from tests.harness.processes import Processes
from tests.harness.system import MARK

SPEC = WorkerSpec("image:latest", "server:50051")


@pytest.fixture
def provider(broker_url: str, processes: Processes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ProcessProvider:
    """A process provider; what it creates carries the test's mark, and is killed at the end."""
    monkeypatch.setenv(MARK, processes.mark)
    return ProcessProvider(tmp_path / "hodei", broker_url, beat=0.3)


@pytest.fixture
def worker_id() -> WorkerId:
    return WorkerId.new()
