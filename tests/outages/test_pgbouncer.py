"""PostgreSQL behind PgBouncer in transaction mode: no two statements of a client need meet on one connection (R21)."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from sagas.store.upgrade import upgrade
from tests.harness.celery_fixtures import StartSystem
from tests.harness.database import MakeDatabase, Query
from tests.harness.effects import Effects
from tests.harness.pgbouncer import PgBouncer, binary
from tests.harness.processes import Processes
from tests.harness.scenario import STEPS, plan
from tests.harness.servers import PostgresServer
from tests.harness_tests.test_scenario_rows import ROWS

if TYPE_CHECKING:
    from sagas import SagaClient

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(300),
    pytest.mark.saga_modules("tests.harness.scenario", "tests.outages.sagas"),
    pytest.mark.skipif(binary() is None, reason="pgbouncer is not installed (apt-get install pgbouncer)"),
]


@pytest.fixture
def pgbouncer(processes: Processes, postgres_server: PostgresServer) -> Iterator[PgBouncer]:
    pooler = PgBouncer(processes, postgres_server)
    yield pooler
    pooler.remove()


@pytest.fixture(params=["", "hodei"], ids=["public", "schema"])
def schema(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """HODEI_DB_SCHEMA of every process of the test, and of the test itself."""
    monkeypatch.setenv("HODEI_DB_SCHEMA", request.param)
    return str(request.param)


@pytest.fixture
def database_url(make_database: MakeDatabase, pgbouncer: PgBouncer, schema: str) -> str:
    """A fresh database through the pooler, which has migrated it, too."""
    url = pgbouncer.url(make_database("empty"))
    upgrade(url, schema=schema or None)
    return url


def test_the_scenarios_end_as_they_say(
    start_system: StartSystem, saga_client: "SagaClient", effects: Effects, query: Query, schema: str
) -> None:
    tables = query("SELECT schemaname FROM pg_tables WHERE tablename IN ('saga_instances', 'jobs')")
    assert [row["schemaname"] for row in tables] == [schema or "public"] * 2
    query("CREATE TABLE public.bookings (saga_id text NOT NULL)")
    start_system(concurrency=4)
    handles = [saga_client.start(saga, payload) for saga, payload, _, _ in ROWS]
    booked = [saga_client.start("booked", plan(two=action)) for action in ("ok", "fail", "flaky")]
    seen = [
        (saga, payload, str(handle.result(timeout=90).outcome), effects.standing(handle.saga_id))
        for (saga, payload, _, _), handle in zip(ROWS, handles, strict=True)
    ]
    assert seen == ROWS
    assert [handle.result(timeout=60).outcome for handle in booked] == ["COMPLETED", "COMPENSATED", "COMPLETED"]
    rows = [row["saga_id"] for row in query("SELECT saga_id FROM public.bookings")]
    assert sorted(rows) == sorted(str(handle.saga_id) for handle in (booked[0], booked[2]))
    assert effects.story(booked[0].saga_id) == [f"effect {step}" for step in STEPS]
