"""L61, DESIGN 6.8: PostgreSQL is away for longer than a step's time limit and its lease, while the step is at work."""

import time
from typing import TYPE_CHECKING

import pytest

from sagas.settings import LEASE_MARGIN
from tests.harness.celery_fixtures import StartSystem
from tests.harness.database import Query
from tests.harness.effects import Effects
from tests.harness.scenario import STEPS, plan
from tests.harness.servers import PostgresServer
from tests.outages.sagas import LIMIT

if TYPE_CHECKING:
    from sagas import SagaClient

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240), pytest.mark.saga_modules("tests.outages.sagas")]


def test_what_was_done_before_the_outage_is_recorded_after_it(
    start_system: StartSystem,
    saga_client: "SagaClient",
    query: Query,
    effects: Effects,
    postgres_server: PostgresServer,
) -> None:
    start_system(concurrency=2)
    with effects.held_lock("gate"):
        # Step two must not act twice, step three may: neither does.
        handles = [saga_client.start("short_once", plan(**{step: "gate:gate"})) for step in ("two", "three")]
        effects.wait_until_blocked("gate", 2)
        postgres_server.stop()
    time.sleep(LIMIT + LEASE_MARGIN + 4)
    postgres_server.start()
    for handle in handles:
        assert handle.result(timeout=60).outcome == "COMPLETED"
        rows = query("SELECT attempt FROM saga_steps WHERE saga_id = %s ORDER BY step_order", str(handle.saga_id))
        assert [row["attempt"] for row in rows] == [1, 1, 1, 1]
        assert effects.story(handle.saga_id) == [f"effect {name}" for name in STEPS]
    assert effects.count("verify") == 0


def test_a_step_that_no_signal_interrupts_ends_with_its_process(
    start_system: StartSystem, saga_client: "SagaClient", effects: Effects
) -> None:
    """Celery's limit is for the whole message and must outlast an outage; the step's own ends the child (R12)."""
    system = start_system(concurrency=1)
    handle = saga_client.start("stubborn")
    began = time.monotonic()
    assert handle.result(timeout=60).outcome == "COMPLETED"
    assert time.monotonic() - began < 30  # not the lease, which is 11 s, and not Celery's 3,612 s
    assert [row.attempt for row in effects.find("effect")] == [1, 2]
    assert " in deaf\n" in system.steps.log()  # its last words: where it was
