"""`hodei job`, `hodei worker` and `hodei demo`, run as a user runs them."""

import json
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from tests.harness.wait import wait_for

HODEI = (sys.executable, "-c", "from sagas.cli import main; main()")

Hodei = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def hodei(processes, celery_environment) -> Hodei:
    """`hodei("job", "list", stdin="", env={...})` in the test's directory."""

    def call(*words: str, stdin: str = "", env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
        environment = processes.environment({**celery_environment, **(env or {})})
        options = {"cwd": processes.directory, "capture_output": True, "text": True, "timeout": 60}
        return subprocess.run([*HODEI, *words], check=False, input=stdin, env=environment, **options)

    return call


def one_line(done: subprocess.CompletedProcess[str]) -> str:
    """The one line of an error; nothing else was printed."""
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    return line


@pytest.mark.slow
def test_submit_and_wait_is_like_running_it_here(system, hodei: Hodei, query) -> None:
    """The issue: prints `hi` and exits 3; the job is FAILED in the database, its worker is alive and READY."""
    done = hodei("job", "submit", "--wait", "--", "sh", "-c", "echo hi; exit 3")
    assert (done.returncode, done.stdout, done.stderr) == (3, "hi\n", "")
    assert query.value("SELECT state FROM jobs") == "FAILED"
    (worker,) = query("SELECT * FROM workers")
    assert worker["state"] == "READY" and psutil.pid_exists(int(worker["reference"]))

    options = ("--env", "GREETING=salut", "--cwd", "/", "--stdin", "-")
    done = hodei(
        "job", "submit", "--wait", *options, "--", "sh", "-c", 'cat; printf "$GREETING $PWD" >&2', stdin="in\nput"
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "in\nput", "salut /")

    done = hodei("job", "submit", "--wait", "--timeout", "0.5", "--", "sleep", "60")
    assert done.returncode == 143 and "TIMED_OUT: time limit of 0.5 s exceeded" in done.stderr

    listed = json.loads(hodei("job", "list", "--json").stdout)
    assert [job["state"] for job in listed] == ["TIMED_OUT", "SUCCEEDED", "FAILED"]
    job_id = listed[-1]["job_id"]
    assert json.loads(hodei("job", "show", job_id, "--json").stdout) == listed[-1]
    assert hodei("job", "logs", job_id).stdout == hodei("job", "logs", "-f", job_id).stdout == "hi\n"
    logged = json.loads(hodei("job", "logs", job_id, "--json").stdout)
    assert logged == [{"line": 1, "stream": "stdout", "content": "hi\n"}]
    (told,) = json.loads(hodei("worker", "list", "--json").stdout)
    assert (told["worker_id"], told["state"], told["job_id"]) == (str(worker["worker_id"]), "READY", None)
    assert "READY" in hodei("worker", "list").stdout
    assert "sh -c 'echo hi; exit 3'" in hodei("job", "list", "--state", "failed").stdout
    assert "FAILED" in hodei("job", "show", job_id).stdout


def test_submitting_needs_no_worker_and_a_key_is_used_once(hodei: Hodei, query) -> None:
    first = hodei("job", "submit", "--key", "k", "--priority", "1", "--", "true")
    second = hodei("job", "submit", "--key", "k", "--json", "--", "true")
    assert first.returncode == second.returncode == 0
    assert json.loads(second.stdout) == {"job_id": first.stdout.strip()}
    (row,) = query("SELECT * FROM jobs")
    assert (row["priority"], row["actor"], row["command"]["argv"]) == (1, "cli", ["true"])
    refused = hodei("job", "submit", "--key", "k", "--", "false")
    assert refused.returncode == 1 and "another command" in one_line(refused)


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        ((), "no command"),
        (("--env", "X", "--", "true"), "write NAME=VALUE"),
        (("--timeout", "-1", "--", "true"), "'timeout' must be a positive number"),
        (("--env", "=x", "--", "true"), "a name in 'env' must not be empty"),
    ],
)
def test_a_command_that_is_none_is_one_line(hodei: Hodei, query, words, complaint) -> None:
    done = hodei("job", "submit", *words)
    assert done.returncode == 2 and complaint in one_line(done)
    assert query.value("SELECT count(*) FROM jobs") == 0


def test_servers_that_do_not_answer_are_one_line(hodei: Hodei, query) -> None:
    lost = {"HODEI_DATABASE_URL": "postgresql://127.0.0.1:1/none"}
    for words in (("job", "submit", "--", "true"), ("job", "list"), ("worker", "list")):
        done = hodei(*words, env=lost)
        assert done.returncode == 1 and "PostgreSQL does not answer" in one_line(done)
    none = hodei("job", "list", env={"HODEI_DATABASE_URL": ""})
    assert none.returncode == 1 and "set HODEI_DATABASE_URL" in one_line(none)
    # Without its broker a job is on record all the same: it is dispatched when the broker is back.
    assert hodei("job", "submit", "--", "true", env={"HODEI_BROKER_URL": "redis://127.0.0.1:1/0"}).returncode == 0
    assert query.value("SELECT state FROM jobs") == "PENDING"


def test_what_is_not_there_is_one_line(hodei: Hodei) -> None:
    done = hodei("job", "show", "00000000-0000-0000-0000-000000000000")
    assert done.returncode == 1 and "no job 00000000" in one_line(done)
    assert hodei("job", "list", "--json").stdout == hodei("worker", "list", "--json").stdout == "[]\n"


@pytest.mark.database("empty")
def test_a_database_without_tables_is_one_line(hodei: Hodei) -> None:
    done = hodei("job", "list")
    assert done.returncode == 1 and "hodei db upgrade" in one_line(done)


@pytest.mark.slow
def test_waiting_can_be_given_up_and_the_job_goes_on(platform, processes, celery_environment, query) -> None:
    command = [*HODEI, "job", "submit", "--wait", "--", "true"]
    waiting = processes.start("waiting", command, celery_environment)
    wait_for(lambda: query("SELECT * FROM jobs"), 20)
    waiting.kill_main(signal.SIGINT)
    assert waiting.wait() == 130
    assert "see: hodei job" in waiting.log(), "by the job's id, or by the list if it came that early"


@pytest.mark.slow
def test_demo_shows_jobs_and_an_undone_saga_and_leaves_nothing(processes) -> None:
    before = set(Path("/tmp").glob("hodei-demo-*"))
    demo = processes.start("demo", [*HODEI, "demo"], {"HODEI_DATABASE_URL": "", "HODEI_BROKER_URL": ""})
    assert demo.wait(100) == 0, demo.tail(100)
    told = demo.log()
    assert "job SUCCEEDED on another worker" in told and "the old worker is TERMINATED" in told
    for text in ("COMPENSATED", "StepCompensated charge_card", "provisioning", "execution", "mean time"):
        assert text in told
    assert processes.strays() == [] and demo.session_pids() == []
    assert set(Path("/tmp").glob("hodei-demo-*")) <= before


@pytest.mark.slow
def test_demo_that_is_interrupted_leaves_nothing(processes) -> None:
    demo = processes.start("demo", [*HODEI, "demo"], {"HODEI_DATABASE_URL": "", "HODEI_BROKER_URL": ""})
    demo.wait_for_log("submitting", 60)
    demo.kill_main(signal.SIGINT)
    assert demo.wait(60) == 130, demo.tail(100)
    assert processes.strays() == [] and demo.session_pids() == []
