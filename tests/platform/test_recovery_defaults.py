"""The promise of recovery with the settings that nobody has changed (issue 4: under 45 s)."""

import pytest

from sagas.jobs.types import JobCommand
from tasks.messages import submit_job
from tests.harness.wait import wait_for
from tests.platform.test_recovery import ONCE, agent_of, running, states
from tests.platform.world import LONG, finished

pytestmark = [pytest.mark.slow, pytest.mark.timeout(200)]

PROMISED = 45.0


@pytest.fixture
def celery_environment(database_url: str, broker_url: str) -> dict[str, str]:
    """The two addresses, and nothing else set."""
    return {"HODEI_DATABASE_URL": database_url, "HODEI_BROKER_URL": broker_url}


@pytest.fixture
def platform(make_platform):
    return make_platform(worker_beat=5.0)


def test_a_killed_workers_job_finishes_elsewhere_within_the_promise(platform, system, query, tmp_path) -> None:
    """kill -9 of a busy agent: its job ends on another worker and its row is TERMINATED, within 45 s together."""
    mark = tmp_path / "mark"
    job_id = submit_job(platform, JobCommand(("sh", "-c", ONCE.format(mark, 300))))
    old = running(query, job_id)
    wait_for(mark.exists, LONG)
    agent_of(query, old["worker_id"]).kill()

    def over() -> bool:
        ended = query.value("SELECT state FROM jobs") == "SUCCEEDED"
        return ended and states(query)[old["worker_id"]] == "TERMINATED"

    wait_for(over, PROMISED)
    row = finished(query, job_id)
    assert (row["attempts"], row["worker_id"] == old["worker_id"]) == (2, False)
