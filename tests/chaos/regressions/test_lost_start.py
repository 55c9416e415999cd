"""A pool child of the control worker dies in the middle of `sagas.start`: the caller gets its answer all the same."""

from typing import Any

import pytest

from sagas import SagaClient
from tests.chaos import gaps
from tests.harness.celery_fixtures import StartWorker
from tests.harness.database import Query
from tests.harness.effects import Effects

pytestmark = [pytest.mark.slow, pytest.mark.saga_modules("tests.chaos.sagas")]


@pytest.mark.parametrize("point", ["before start", "after start"])
def test_a_start_over_the_broker_outlives_the_worker_that_served_it(
    point: str, start_worker: StartWorker, broker_url: str, query: Query, effects: Effects
) -> None:
    effects.query(gaps.TABLE)
    effects.query("TRUNCATE chaos_gaps")
    effects.query("INSERT INTO chaos_gaps (point) VALUES (%s)", point)
    start_worker(queues=["control"], env={"CHAOS_PATCH": "tests.chaos.gaps"})
    handle: Any = SagaClient(broker_url, timeout=30).start("scenario", {}, idempotency_key="k")
    assert effects.query("SELECT pid FROM chaos_gaps")[0]["pid"] is not None, "nobody died"
    assert [str(row["saga_id"]) for row in query("SELECT saga_id FROM saga_instances")] == [str(handle.saga_id)]
