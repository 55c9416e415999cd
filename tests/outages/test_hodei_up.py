"""What `hodei up` shows and does when a server of its own goes away: the real system, as a user runs it."""

import json
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from sagas import SagaClient
from tests.cli.conftest import Hodei
from tests.cli.conftest import home as home  # noqa: PLC0414 - a fixture
from tests.harness.database import Query
from tests.harness.effects import Effects
from tests.harness.scenario import STEPS, plan
from tests.harness.wait import wait_for

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


@pytest.fixture
def hodei(home: Path, effects: Effects) -> Iterator[Hodei]:
    """A running system with the scenario's sagas; whatever is left of it at the end is killed."""
    system = Hodei(home)
    system.env["HODEI_TEST_EFFECTS_URL"] = effects.url
    try:
        system.ok("up", "--modules", "tests.harness.scenario", "--concurrency", "2", "--no-flower")
        yield system
        system.ok("down")
    finally:
        system.kill(system.processes())


def record(hodei: Hodei) -> dict[str, str]:
    found: dict[str, str] = json.loads((hodei.home / "system.json").read_text())
    return found


def family(pid: int) -> list[psutil.Process]:
    return [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]


def postgres_of(hodei: Hodei) -> list[psutil.Process]:
    pid = int((hodei.home / "postgres" / "data" / "postmaster.pid").read_text().split()[0])
    return family(pid)


def valkey_of(hodei: Hodei) -> list[psutil.Process]:
    return family(int((hodei.home / "valkey" / "valkey.pid").read_text()))


def send(processes: list[psutil.Process], sig: signal.Signals) -> None:
    for process in processes:
        os.kill(process.pid, sig)


def logs(hodei: Hodei) -> str:
    return "".join(file.read_text(errors="replace") for file in sorted((hodei.home / "logs").glob("*.log")))


def test_a_stall_shows_in_status_and_log(hodei: Hodei) -> None:
    """L19: for how long the database, the broker or reconcile has not been heard."""
    wait_for(lambda: "ran 0 s ago" in hodei.ok("status") or "ran 1 s ago" in hodei.ok("status"), 30)
    database = postgres_of(hodei)
    send(database, signal.SIGSTOP)
    time.sleep(8)
    line = hodei.refused("status")
    send(database, signal.SIGCONT)
    assert "database" in line and "does not answer" in line and "it last did" in line, line
    wait_for(lambda: "is heard again after" in logs(hodei), 30, lambda: logs(hodei)[-3000:])

    broker = valkey_of(hodei)
    send(broker, signal.SIGSTOP)
    wait_for(lambda: "reconcile has not run for" in logs(hodei), 40, lambda: logs(hodei)[-3000:])
    line = hodei.refused("status")
    send(broker, signal.SIGCONT)
    assert "broker" in line and "does not answer" in line and "it last did" in line, line
    wait_for(lambda: "reconcile runs again" in logs(hodei), 40, lambda: logs(hodei)[-3000:])

    (beat,) = [process for process in hodei.processes() if "beat" in process.cmdline()]
    beat.suspend()
    wait_for(lambda: "has not run for" in hodei.ok("status"), 60)
    beat.resume()
    wait_for(lambda: "has not run for" not in hodei.ok("status"), 30)


def test_a_worker_that_ends_because_its_broker_does_is_started_again(hodei: Hodei, effects: Effects) -> None:
    """CELERY.md, point 5, and L47: the broker is killed under load; the supervisor starts it and the workers again."""
    system = record(hodei)
    client = SagaClient(system["broker_url"], database_url=system["database_url"])
    handles = [client.start("scenario", plan(one="slow:0.5", two="slow:0.5")) for _ in range(10)]
    effects.wait("effect", 2, 60)
    send(valkey_of(hodei)[:1], signal.SIGKILL)
    assert [handle.result(timeout=120).outcome for handle in handles] == ["COMPLETED"] * len(handles)
    assert [effects.story(handle.saga_id) for handle in handles] == [[f"effect {s}" for s in STEPS]] * len(handles)
    attempts = Query(system["database_url"]).value("SELECT max(attempt) FROM saga_steps")
    assert attempts == 1

    # Whatever made it end: a worker's main process that is gone is back, and works.
    (steps,) = [p for p in hodei.processes() if f"steps@{os.uname().nodename}" in p.cmdline() and _is_main(p)]
    steps.send_signal(signal.SIGKILL)
    again = client.start("scenario", plan())
    assert again.result(timeout=60).outcome == "COMPLETED"
    assert "RUNNING" in hodei.ok("status")


def _is_main(process: psutil.Process) -> bool:
    parent = process.parent()
    return parent is not None and "supervisor" in " ".join(parent.cmdline())
