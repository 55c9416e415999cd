"""`celery -A app saga ...`: the same commands, on the engine and the database of that app."""

import json
import subprocess
import sys
from collections.abc import Callable

import pytest

from sagas.runtime.engine import Engine
from tests.cli_saga.conftest import PAYLOAD, Hodei
from tests.harness.celery_fixtures import StartWorker
from tests.harness.database import MakeDatabase, Query
from tests.harness.processes import ROOT

pytestmark = [pytest.mark.slow, pytest.mark.saga_modules("examples.order")]
Celery = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def celery(environment: pytest.MonkeyPatch) -> Celery:
    """`celery(*words)`: the command, in the project's root."""

    def run(*words: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "celery", *words]
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)

    return run


def test_it_answers_what_hodei_answers(celery: Celery, hodei: Hodei, engine: Engine) -> None:
    started = celery("-A", "tasks", "saga", "start", "order", "--payload", json.dumps(PAYLOAD))
    saga_id = started.stdout.strip()
    assert started.returncode == 0, started.stderr
    assert json.loads(celery("-A", "tasks", "saga", "list", "--json").stdout) == hodei("saga", "list", "--json").json
    shown = celery("-A", "tasks", "saga", "show", saga_id).stdout
    assert "reserve_stock" in shown and shown == hodei("saga", "show", saga_id).out
    assert celery("-A", "tasks", "saga", "cancel", saga_id).stdout == "cancelled\n"


def test_the_database_is_that_of_the_app(celery: Celery, engine: Engine, make_database: MakeDatabase) -> None:
    """Settings given to `sagas.install` win over the environment."""
    elsewhere = make_database("engine")
    app = "tests.cli_saga.app_elsewhere"
    engine.orchestrator.start_saga("order", PAYLOAD)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ELSEWHERE_DATABASE_URL", elsewhere)
        assert json.loads(celery("-A", app, "saga", "list", "--json").stdout) == []


def test_errors_are_one_line_here_too(celery: Celery, environment: pytest.MonkeyPatch) -> None:
    unknown = celery("-A", "tasks", "saga", "show", "42")
    assert (unknown.returncode, unknown.stderr) == (1, "hodei: '42' is no saga id (a UUID is meant)\n")
    without = celery("saga", "list")
    assert without.returncode == 1 and "has no sagas; call sagas.install(app)" in without.stderr
    environment.delenv("HODEI_DATABASE_URL")
    nowhere = celery("-A", "tasks", "saga", "list")
    assert nowhere.returncode == 1 and nowhere.stderr.startswith("hodei: no database: set HODEI_DATABASE_URL")
    assert len(nowhere.stderr.splitlines()) == 1


def test_wait_ends_with_the_saga(hodei: Hodei, engine: Engine, query: Query, start_worker: StartWorker) -> None:
    start_worker()
    good = hodei("saga", "start", "order", "--payload", json.dumps(PAYLOAD), "--wait")
    assert good.code == 0 and good.out.endswith(" COMPLETED (3 steps, 0 compensations)\n")
    bad = hodei("saga", "start", "order", "--payload", json.dumps({**PAYLOAD, "card": "tok_declined"}), "--wait")
    assert bad.code == 1
    assert bad.out.endswith(" COMPENSATED (2 steps, 1 compensations): PermanentError: the card was declined\n")
    told = hodei("saga", "start", "order", "--payload", json.dumps(PAYLOAD), "--wait", "--json").json
    assert (told["outcome"], told["outputs"]["reserve_stock"]) == ("COMPLETED", {"price": 42})
