"""HODEI_SAGA_MODULES with the platform's own app: a plain worker and a plain beat are a complete system."""

import json
import subprocess
import sys
from pathlib import Path
from urllib.error import HTTPError
from urllib.parse import urlencode
from urllib.request import Request, urlopen

import pytest

from sagas import SagaClient
from tests.harness.celery_fixtures import StartBeat, StartFlower, StartWorker
from tests.harness.celery_nodes import CELERY
from tests.harness.database import Query
from tests.harness.effects import Effects
from tests.harness.processes import ROOT, Processes
from tests.harness.scenario import plan
from tests.harness.wait import wait_for
from tests.ways_in.conftest import PAYLOAD, Ledger

pytestmark = [pytest.mark.slow]
ORDER = pytest.mark.saga_modules("examples.order")
HODEI = (sys.executable, "-c", "from sagas.cli import main; main()")


@ORDER
@pytest.mark.database("empty")
def test_upgrade_worker_and_beat_are_a_complete_system(
    ledger: Ledger,
    celery_environment: dict[str, str],
    processes: Processes,
    start_worker: StartWorker,
    start_beat: StartBeat,
    saga_client: SagaClient,
) -> None:
    assert processes.start("upgrade", [*HODEI, "db", "upgrade"], celery_environment).wait(30) == 0
    start_worker(concurrency=1)
    start_beat()
    assert saga_client.start("order", PAYLOAD).result(timeout=30).outcome == "COMPLETED"
    # Nobody publishes this one: beat and reconcile do.
    started = saga_client.start("order", {**PAYLOAD, "address": "nowhere"}, session=_autocommit(celery_environment))
    assert started.result(timeout=30).outcome == "COMPENSATED"
    assert sorted(ledger()) == sorted(["reserve", "charge", "ship", "reserve", "charge", "refund", "release"])


def _autocommit(environment: dict[str, str]) -> object:
    return Query(environment["HODEI_DATABASE_URL"]).connect()


@pytest.mark.parametrize("command", ["worker", "beat"])
def test_a_missing_module_is_one_line_and_exit_code_1(
    command: str, processes: Processes, celery_environment: dict[str, str]
) -> None:
    env = {**celery_environment, "HODEI_SAGA_MODULES": "no_such_sagas"}
    done = _celery(processes, env, "-A", "tasks", command)
    assert done.returncode == 1
    assert "no_such_sagas" in done.stderr and "Traceback" not in done.stderr
    assert len(done.stderr.splitlines()) == 1, done.stderr


@pytest.mark.parametrize("command", ["worker", "beat"])
@pytest.mark.parametrize("missing", ["HODEI_DATABASE_URL", "HODEI_BROKER_URL"])
def test_a_server_that_nobody_named_is_one_line_and_exit_code_1(
    command: str, missing: str, processes: Processes, celery_environment: dict[str, str], tmp_path: Path
) -> None:
    env = {**celery_environment, missing: "", "HODEI_HOME": str(tmp_path / "nothing")}
    done = _celery(processes, env, "-A", "tasks", command)
    assert done.returncode == 1
    lines = [line for line in done.stderr.splitlines() if line.startswith("hodei: ")]
    assert len(lines) == 1 and missing in lines[0], done.stderr
    assert "Traceback" not in done.stderr


def _celery(processes: Processes, env: dict[str, str], *words: str) -> subprocess.CompletedProcess[str]:
    """A celery command that is expected to end by itself."""
    command, directory = [*CELERY, *words], processes.directory
    everything = processes.environment(env)
    return subprocess.run(
        command, cwd=directory, env=everything, capture_output=True, text=True, timeout=60, check=False
    )


@ORDER
def test_flower_lists_every_step_of_a_saga_by_its_name(
    ledger: Ledger, start_flower: StartFlower, start_worker: StartWorker, saga_client: SagaClient
) -> None:
    """Flower is there before the saga; one search finds all its messages."""
    flower = start_flower()
    start_worker()
    ended = saga_client.start("order", {**PAYLOAD, "address": "nowhere"}).result(timeout=30)
    search = urlencode({"search": f"kwargs:saga_id={ended.saga_id}"})

    def names() -> set[str]:
        with urlopen(f"{flower}/api/tasks?{search}", timeout=10) as answer:
            return {task["name"] for task in json.load(answer).values()}

    steps = {"order.reserve_stock", "order.charge_card", "order.ship"}
    undos = {"order.charge_card.compensate", "order.reserve_stock.compensate"}
    wait_for(lambda: names() >= steps | undos, 15, lambda: f"Flower knows {names()}")


@pytest.mark.database("empty")
def test_flowers_api_may_be_read_on_this_machine_and_no_more(start_flower: StartFlower) -> None:
    """Without a login: no task is started over it, and no web page reads it by a host name of its own."""
    tasks = f"{start_flower()}/api/tasks"
    with urlopen(tasks, timeout=10) as answer:
        assert answer.status == 200 and answer.headers["Access-Control-Allow-Origin"] is None
    start = Request(f"{tasks.removesuffix('s')}/send-task/sagas.start", data=b'{"args": []}', method="POST")
    rebound = Request(tasks, headers={"Host": "evil.example"})
    for request in (start, rebound):
        with pytest.raises(HTTPError) as refused:
            urlopen(request, timeout=10)
        with refused.value as answer:
            assert answer.code == 401


def test_a_failing_third_step_of_four_is_compensated_in_reverse(
    start_worker: StartWorker, start_beat: StartBeat, saga_client: SagaClient, effects: Effects, query: Query
) -> None:
    start_worker()
    start_beat()
    ended = saga_client.start("scenario", plan(three="fail")).result(timeout=30)
    assert (ended.outcome, ended.steps_executed, ended.compensations_executed) == ("COMPENSATED", 3, 2)
    assert effects.story(ended.saga_id) == ["effect one", "effect two", "undo two", "undo one"]
    told = [
        (row["event_type"], row["step_name"])
        for row in query(
            "SELECT event_type, step_name FROM saga_events WHERE saga_id = %s ORDER BY event_id", str(ended.saga_id)
        )
    ]
    assert told == [
        ("SagaStarted", None),
        ("StepCompleted", "one"),
        ("StepCompleted", "two"),
        ("StepFailed", "three"),
        ("SagaCompensating", None),
        ("StepCompensated", "two"),
        ("StepCompensated", "one"),
        ("SagaCompensated", None),
    ]


def test_a_killed_worker_is_replaced_and_nothing_recorded_runs_again(
    start_worker: StartWorker, start_beat: StartBeat, saga_client: SagaClient, effects: Effects
) -> None:
    """L40: SIGKILL of the whole worker while its step waits on a lock that the test holds; then a new worker."""
    worker = start_worker(concurrency=2)
    start_beat()
    with effects.held_lock("gate"):
        handle = saga_client.start("scenario", plan(three="lock:gate"))
        effects.wait_until_blocked("gate")
        worker.kill_all()
        wait_for(lambda: not effects.blocked("gate"), message="the dead process's lock request is gone")
    start_worker(name="successor")
    ended = handle.result(timeout=60)
    assert (ended.outcome, ended.steps_executed) == ("COMPLETED", 4)
    begun = [row.step for row in effects.find("begin", saga_id=handle.saga_id)]
    assert begun == ["one", "two", "three", "three", "four"], "a recorded step is never begun again"
    assert effects.story(handle.saga_id) == [f"effect {step}" for step in ("one", "two", "three", "four")]


@ORDER
def test_the_example_runs_from_the_checkouts_root(
    ledger: Ledger, saga_client: SagaClient, start_worker: StartWorker
) -> None:
    """As its docstring says: the working directory is importable, nothing else is needed."""
    start_worker(env={"PYTHONPATH": ""}, cwd=ROOT)
    assert saga_client.start("order", PAYLOAD).result(timeout=30).outcome == "COMPLETED"
