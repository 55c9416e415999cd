"""`hodei check`: what would be missing, by name."""

import json
import subprocess
import sys
from typing import Any

import pytest

from sagas.runtime.engine import Engine
from tests.cli_saga.conftest import PAYLOAD
from tests.harness.celery_fixtures import StartWorker
from tests.harness.database import Query
from tests.harness.processes import ROOT

pytestmark = [pytest.mark.slow, pytest.mark.saga_modules("examples.order")]


def check(*words: str) -> subprocess.CompletedProcess[str]:
    """`hodei check` in a process of its own: the app is loaded once in a process, with the settings of then."""
    command = [sys.executable, "-c", "from sagas.cli import main; main()", "check", *words]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)


def problems(*words: str) -> dict[str, list[str]]:
    """What `hodei check` complains of, by check; its exit code says the same."""
    answer = check("--json", *words)
    assert answer.stdout, answer.stderr
    told: dict[str, Any] = json.loads(answer.stdout)
    found = {one["check"]: one["problems"] for one in told["checks"] if one["problems"]}
    assert (answer.returncode, told["ok"]) == ((1, False) if found else (0, True))
    return found


def test_a_complete_system_has_no_problem(engine: Engine, start_worker: StartWorker) -> None:
    worker = start_worker()
    assert problems() == {}
    assert check().stdout.splitlines() == [
        f"ok       {name}"
        for name in ("definitions", "database", "broker", "sagas in flight", "workers", "tasks", "queues")
    ]
    worker.stop()
    assert problems() == {"workers": ["no worker answers; start one: celery -A ... worker"]}


def test_missing_tasks_and_queues_are_named(
    engine: Engine, environment: pytest.MonkeyPatch, start_worker: StartWorker
) -> None:
    """L18: a step that no worker has registered, and a queue that nobody consumes."""
    start_worker(queues=["steps", "control"], env={"HODEI_SAGA_MODULES": "tests.cli_saga.stubborn"})
    found = problems()
    assert "no live worker has the task order.charge_card" in found["tasks"]
    assert "no live worker has the task order.charge_card.compensate" in found["tasks"]
    assert not any("stubborn" in line for line in found["tasks"])
    assert found["queues"] == [
        "no live worker consumes the queue compensations",
        "no live worker consumes the queue events",
        "no live worker consumes the queue payments",
    ]


def test_sagas_in_flight_without_their_code_are_named(engine: Engine, environment: pytest.MonkeyPatch) -> None:
    """L56: a deploy that renames or drops a version while sagas of it are in flight."""
    saga_id = engine.orchestrator.start_saga("order", PAYLOAD)
    assert "sagas in flight" not in problems()
    environment.setenv("HODEI_SAGA_MODULES", "")
    (line,) = problems()["sagas in flight"]
    assert line == f"1 of 'order' version 1, which no loaded definition has: {saga_id}"
    engine.store.cancel(saga_id, "over", None)
    assert "sagas in flight" not in problems(), "what has ended needs no code"


def test_servers_that_are_away_and_modules_that_are_missing(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("HODEI_BROKER_URL", "redis://127.0.0.1:1/0")
    assert list(problems()) == ["broker"]
    environment.setenv("HODEI_DATABASE_URL", "postgresql://127.0.0.1:1/nothing")
    (line,) = problems()["database"]
    assert line.startswith("PostgreSQL does not answer: ")
    environment.setenv("HODEI_SAGA_MODULES", "no_such_sagas")
    (line,) = problems()["definitions"]
    assert line.startswith("saga module 'no_such_sagas' cannot be found")


@pytest.mark.database("empty")
def test_a_database_without_tables(environment: pytest.MonkeyPatch) -> None:
    assert problems()["database"] == ["the database is not at the newest version; run: hodei db upgrade"]


def test_a_database_of_another_version(environment: pytest.MonkeyPatch, query: Query) -> None:
    query("DELETE FROM hodei_alembic_version")
    assert problems()["database"] == ["the database is not at the newest version; run: hodei db upgrade"]
    query("INSERT INTO hodei_alembic_version VALUES ('from_the_future')")
    assert problems()["database"] == ["the database was made by a newer version; update hodei-sagas here"]


def test_a_role_whose_transactions_are_serializable(environment: pytest.MonkeyPatch, query: Query) -> None:
    """In this database."""
    query(
        "DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET default_transaction_isolation = serializable',"
        " current_database()); END $$"
    )
    (line,) = problems()["database"]
    assert line.startswith("this role's transactions are serializable; ")


@pytest.mark.database("engine")
def test_the_platforms_tables_are_not_asked_of_an_app_of_ones_own(environment: pytest.MonkeyPatch) -> None:
    assert "database" not in problems("-A", "tests.cli_saga.app_elsewhere")
