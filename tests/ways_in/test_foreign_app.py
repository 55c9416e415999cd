"""An app of somebody's own: its own tasks.py, models.py and celeryconfig.py, and only the built wheel installed.

The app is `examples/foreign_app`, copied out of the checkout. L76.
"""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.harness.processes import ROOT, Process, Processes
from tests.harness.wait import wait_for
from tests.ways_in.conftest import Environment, alone

pytestmark = [pytest.mark.slow, pytest.mark.wheel, pytest.mark.timeout(300), pytest.mark.database("empty")]
QUEUES = ("proj", "steps", "compensations", "control")

TWO_CLIENTS = """
import os
from proj import app
from sagas import SagaClient
for url in (None, os.environ["PROJ_DATABASE_URL"]):
    client = SagaClient(app=app, database_url=url)
    print(client.start("trip", {"to": "Oslo"}, idempotency_key="one").result(timeout=30).outcome)
"""
WHERE = """
import importlib.util, models, sagas, tasks
print(sagas.__file__, tasks.__file__, importlib.util.find_spec("sagas.jobs"))
"""


@pytest.fixture
def proj(tmp_path: Path) -> Path:
    """The app's directory."""
    return Path(shutil.copytree(ROOT / "examples" / "foreign_app", tmp_path / "proj"))


@pytest.fixture
def settings(proj: Path, database_url: str, broker_url: str) -> dict[str, str]:
    """The app's own variables; none of ours."""
    book = str(proj / "book.jsonl")
    return {"PROJ_DATABASE_URL": database_url, "PROJ_BROKER_URL": broker_url, "PROJ_BOOK": book}


@pytest.fixture
def celery(server_environment: Environment, proj: Path, settings: dict[str, str]) -> Callable[..., str]:
    """`celery(*words)`: `celery -A proj ...` in the app's directory; its output."""

    def run(*words: str) -> str:
        return server_environment.ok("celery", "-A", "proj", *words, cwd=proj, **settings)

    return run


@pytest.fixture
def worker(
    server_environment: Environment, proj: Path, settings: dict[str, str], processes: Processes, database_url: str
) -> Process:
    """`celery -A proj worker -B` on tables that the installed `hodei` has made."""
    server_environment.ok("hodei", "db", "upgrade", cwd=proj, HODEI_DATABASE_URL=database_url)
    command = [server_environment.program("celery"), "-A", "proj", "worker", "-B", "-c", "1", "-l", "INFO"]
    started = processes.start("proj", command, {**settings, "PYTHONPATH": ""}, cwd=proj)
    started.wait_for_log(" ready.", 60)
    return started


def book(settings: dict[str, str]) -> list[str]:
    """What the app has booked."""
    return [json.loads(line)["what"] for line in Path(settings["PROJ_BOOK"]).read_text().splitlines()]


def test_its_own_worker_runs_sagas_to_both_ends(
    worker: Process, celery: Callable[..., str], settings: dict[str, str]
) -> None:
    log = worker.log()
    assert all(f".> {queue} " in log for queue in QUEUES), "a plain worker consumes its queue and ours"
    assert "proj.greet" in log and "trip.book_flight.compensate" in log

    good = json.loads(celery("saga", "start", "trip", "--payload", '{"to": "Oslo"}', "--wait", "--json"))
    assert (good["outcome"], good["outputs"]["book_flight"]) == ("COMPLETED", {"flight": "to Oslo"})
    bad = celery("saga", "start", "trip", "--payload", '{"to": "Atlantis"}').strip()

    def state() -> Any:
        return json.loads(celery("saga", "show", bad, "--json"))["state"]

    wait_for(lambda: state() == "COMPENSATED", 30)
    listed = [(one["saga_id"], one["state"]) for one in json.loads(celery("saga", "list", "--json"))]
    assert listed == [(bad, "COMPENSATED"), (good["saga_id"], "COMPLETED")]
    assert book(settings) == ["flight", "hotel", "flight", "no flight"]

    celery("call", "proj.greet", "--args", '["Ana"]')
    wait_for(lambda: book(settings)[-1] == "greeting", 15)


def test_the_client_of_its_own_app(
    worker: Process, server_environment: Environment, proj: Path, settings: dict[str, str]
) -> None:
    out = server_environment.ok("python", "-c", TWO_CLIENTS, cwd=proj, **settings)
    assert out.split() == ["COMPLETED", "COMPLETED"]
    assert book(settings) == ["flight", "hotel"], "one key, one saga, whichever client asks"


def test_it_installs_the_library_alone(server_environment: Environment, proj: Path, settings: dict[str, str]) -> None:
    where, tasks, jobs = server_environment.ok("python", "-c", WHERE, cwd=proj, **settings).split()
    assert where.startswith(str(server_environment.directory))
    assert (Path(tasks).parent, jobs) == (proj, "None")
    commands = server_environment.ok("hodei", "--help", cwd=proj)
    assert "  saga " in commands and "  job " not in commands


def test_tables_that_are_not_there_end_the_worker_with_one_line(
    server_environment: Environment, proj: Path, settings: dict[str, str]
) -> None:
    words = ("celery", "-A", "proj", "worker", "-c", "1")
    done = server_environment.run(*words, cwd=proj, **settings)
    assert done.returncode == 1
    assert "hodei: the database has no engine tables yet; run: hodei db upgrade" in done.stderr.splitlines()
    assert "Traceback" not in done.stderr


def test_the_environment_is_clean() -> None:
    assert not [name for name in alone() if name.startswith(("PYTHON", "HODEI_"))]


@pytest.mark.parametrize(
    ("setting", "line"),
    [
        ("task_always_eager = True", "hodei: task_always_eager=True runs steps without a broker"),
        ("accept_content = ['json', 'pickle']", "hodei: pickle is among the app's serializers"),
        ("task_annotations = {'*': {'acks_late': False}}", "hodei: task_annotations['*'] acknowledges early"),
    ],
)
def test_what_would_break_a_promise_is_refused_in_one_line(
    server_environment: Environment, proj: Path, settings: dict[str, str], setting: str, line: str
) -> None:
    with (proj / "celeryconfig.py").open("a") as config:
        config.write(f"{setting}\n")
    done = server_environment.run("celery", "-A", "proj", "worker", "-c", "1", cwd=proj, **settings)
    (told,) = done.stderr.splitlines()
    assert done.returncode == 1 and told.startswith(line)
