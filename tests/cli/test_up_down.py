"""`hodei up` and `hodei down` on real processes: all of it comes up, stays up, and goes."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from sagas.cli.health import answers_http
from sagas.cli.processes import Identity
from sagas.cli.servers import postgres_answers, valkey_answers
from tests.cli.conftest import APP, Hodei
from tests.harness.wait import wait_for

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


def status(hodei: Hodei) -> dict[str, Any]:
    found = json.loads(hodei.ok("status", "--json"))
    assert isinstance(found, dict)
    return found


def all_run(hodei: Hodei) -> bool:
    found = status(hodei)
    return len(found["nodes"]) == 2 and set(found["processes"].values()) == {"RUNNING"}


def words_of(process: psutil.Process) -> str:
    """Its command line; empty for one that has ended, also between the look and the question."""
    try:
        return " ".join(process.cmdline())
    except psutil.NoSuchProcess:  # ZombieProcess is one, too
        return ""


def start_agent(hodei: Hodei) -> psutil.Process:
    """Something that looks like a job agent with a job: a session of its own, a child, a pid file."""
    code = "import subprocess, sys; subprocess.run([sys.executable, '-c', 'import time; time.sleep(300)'])"
    child = subprocess.Popen([sys.executable, "-c", code], env=hodei.env, start_new_session=True)
    hodei.children.append(child)
    identity = Identity.of(child.pid)
    assert identity is not None
    file = hodei.home / "agents" / "w1" / "agent.pid"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps({"pid": identity.pid, "started": identity.started}))
    agent = psutil.Process(child.pid)
    wait_for(agent.children)
    return agent


def test_up_comes_up_whole_and_down_leaves_nothing(hodei: Hodei) -> None:
    system = hodei.up()
    assert system["already_running"] is False
    assert system["embedded"] == ["postgres", "valkey"]
    assert postgres_answers(system["database_url"])
    assert valkey_answers(system["broker_url"])
    assert answers_http(system["flower_url"])
    assert (hodei.home / "system.json").stat().st_mode & 0o777 == 0o600
    found = status(hodei)
    assert found["nodes"] == sorted(f"{name}@{socket.gethostname()}" for name in ("steps", "control"))
    assert set(found["processes"]) == {"postgres", "valkey", "steps", "control", "beat", "flower"}
    assert {"database", "broker", "flower"} <= {name for name, state in found["servers"].items() if state == "answers"}

    again = hodei.up()
    assert again["already_running"] is True
    assert again["supervisor_pid"] == system["supervisor_pid"]

    agent = start_agent(hodei)
    family = [agent, *agent.children(recursive=True)]
    assert "stopped what ran" in hodei.ok("down")
    assert hodei.processes() == []
    assert not any(Identity.of(process.pid) for process in family)
    assert not (hodei.home / "system.json").exists()
    assert "nothing was running" in hodei.ok("down")
    assert "nothing is running" in hodei.refused("status")


def test_what_dies_is_started_again(hodei: Hodei) -> None:
    """A worker, the broker (whose memory is lost) and PostgreSQL, each by SIGKILL."""
    system = hodei.up("--no-flower")
    mains = [p for p in hodei.processes() if p.ppid() == system["supervisor_pid"]]
    for part in ("-n steps@", "valkey-server", "postgres"):
        victim = next(p for p in mains if part in words_of(p))
        victim.kill()
        wait_for(lambda process=victim: not process.is_running())  # type: ignore[misc]
    wait_for(lambda: postgres_answers(system["database_url"]), 30)
    wait_for(lambda: valkey_answers(system["broker_url"]), 30)
    wait_for(lambda: all_run(hodei), 60)
    hodei.ok("down")
    assert hodei.processes() == []


def test_after_a_killed_supervisor_up_stops_the_orphans_and_starts_anew(hodei: Hodei) -> None:
    first = hodei.up("--no-flower")
    agent = start_agent(hodei)
    os.kill(first["supervisor_pid"], signal.SIGKILL)
    wait_for(lambda: Identity.of(first["supervisor_pid"]) is None)
    family = {agent.pid, *(child.pid for child in agent.children(recursive=True))}
    orphans = [process for process in hodei.processes() if process.pid not in family]
    assert len(orphans) >= 5
    assert "supervisor" in hodei.ok("status")
    second = hodei.up("--no-flower")
    assert second["already_running"] is False
    assert not any(process.is_running() for process in orphans)
    assert second["broker_url"] == first["broker_url"]  # where the agents look for it
    assert agent.is_running()

    hodei.kill([process for process in hodei.processes() if process.pid not in family])  # all at once
    assert "nothing is running" in hodei.refused("status")
    assert hodei.up("--no-flower")["already_running"] is False
    hodei.ok("down")
    assert hodei.processes() == []


@pytest.mark.parametrize("sig", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_up_leaves_nothing(hodei: Hodei, sig: signal.Signals) -> None:
    child = hodei.start("up", "-A", APP, "--concurrency", "1")
    wait_for(lambda: any("-n steps@" in words_of(process) for process in hodei.processes()), 60)
    child.send_signal(sig)
    _, err = child.communicate(timeout=60)
    assert child.returncode == 1
    assert "Traceback" not in err
    assert hodei.processes() == []


def test_killed_up_is_cleared_by_the_next(hodei: Hodei) -> None:
    child = hodei.start("up", "-A", APP, "--concurrency", "1")
    wait_for(lambda: any("-n steps@" in words_of(process) for process in hodei.processes()), 60)
    child.kill()
    child.communicate()
    assert hodei.processes()
    assert "stopped what ran" in hodei.ok("down")
    assert hodei.processes() == []


def test_given_servers_are_used_and_left_alone(hodei: Hodei, database_url: str, broker_url: str) -> None:
    system = hodei.up("--no-flower", HODEI_DATABASE_URL=database_url, HODEI_BROKER_URL=broker_url)
    assert system["embedded"] == []
    assert (system["database_url"], system["broker_url"]) == (database_url, broker_url)
    assert set(status(hodei)["processes"]) == {"steps", "control", "beat"}
    hodei.ok("down")
    assert hodei.processes() == []
    assert postgres_answers(database_url)
    assert valkey_answers(broker_url)


def test_home_whose_path_is_too_long_for_sockets(hodei: Hodei, home: Path) -> None:
    long = Hodei(home / ("d" * 90) / "home")
    long.up("--no-flower")
    assert all_run(long)
    long.ok("down")
    assert long.processes() == []


def test_second_up_while_the_first_is_at_work_is_told_so(hodei: Hodei) -> None:
    hodei.home.mkdir()
    child = hodei.start("up", "-A", APP, "--concurrency", "1", "--no-flower")
    wait_for((hodei.home / "supervisor.json").exists, 60)
    assert "another `hodei up` or `hodei down` is at work" in hodei.refused("up", "-A", APP)
    child.communicate(timeout=100)
    assert child.returncode == 0
    hodei.ok("down")


def test_process_that_does_not_stay_up_ends_up_with_the_last_line_of_its_log(hodei: Hodei) -> None:
    before = time.monotonic()
    line = hodei.refused("up", "-A", APP, "--no-flower", SMALL_APP_WORKER_FAILS="1")
    assert "does not stay up: no licence for this worker" in line
    assert time.monotonic() - before < 60
    assert hodei.processes() == []
