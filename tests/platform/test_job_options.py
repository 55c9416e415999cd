"""Issue 4: what `hodei job submit` may ask for, on real servers, agents and processes."""

import json
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from sagas.jobs.types import JobId
from tests.harness.system import alive
from tests.harness.wait import wait_for
from tests.platform.test_commands import HODEI, Hodei, hodei, one_line
from tests.platform.world import LONG, agents, finished

__all__ = ["hodei"]

STUBBORN = """#!/bin/sh
trap '' TERM
sh -c 'trap "" TERM; echo $$; exec sleep 300' &
echo $$
wait
"""


@pytest.fixture
def script(tmp_path: Path) -> Any:
    """`script(text)`: the name of a file that holds it."""

    def write(text: str) -> str:
        (tmp_path / "job.sh").write_text(text)
        return str(tmp_path / "job.sh")

    return write


@pytest.mark.slow
def test_a_script_runs_with_its_arguments_by_its_first_line_or_by_sh(system, hodei: Hodei, script, query) -> None:
    python = script("#!/usr/bin/env python3\nimport os, sys\nprint(sys.argv[1:], os.getcwd() != '/', input())\n")
    done = hodei("job", "submit", "--wait", "--script", python, "--stdin", "-", "--", "a b", "-c", stdin="in\n")
    assert (done.returncode, done.stdout, done.stderr) == (0, "['a b', '-c'] True in\n", "")
    plain = script('echo "$1 $COLOUR"; exit 5\n')
    done = hodei("job", "submit", "--wait", "--script", plain, "--env", "COLOUR=red", "--", "x")
    assert (done.returncode, done.stdout, done.stderr) == (5, "x red\n", "")
    assert "script" in hodei("job", "list").stdout
    (agent,) = agents(query)
    assert [*Path(agent.cwd()).rglob("script")] == [], "a script may hold secrets: it goes with its run"


@pytest.mark.slow
def test_a_run_that_fails_is_repeated_only_if_that_was_asked_for(system, hodei: Hodei, script, query, tmp_path) -> None:
    third = script('echo run >> "$1"; n=$(wc -l < "$1"); echo "run $n"; [ "$n" -ge 3 ]\n')
    done = hodei("job", "submit", "--wait", "--max-attempts", "5", "--script", third, "--", str(tmp_path / "runs"))
    assert (done.returncode, done.stdout) == (0, "run 1\nrun 2\nrun 3\n"), "the output of each run, followed"
    (row,) = query("SELECT * FROM jobs")
    assert (row["state"], row["attempts"], row["exit_code"]) == ("SUCCEEDED", 3, 0)
    assert query.value("SELECT count(*) FROM job_results WHERE counted") == 3
    assert hodei("job", "submit", "--wait", "--", "false").returncode == 1
    assert query.value("SELECT attempts FROM jobs WHERE state = 'FAILED'") == 1


@pytest.mark.slow
def test_a_running_job_is_cancelled_with_all_its_processes(system, hodei: Hodei, script, query) -> None:
    """L30: SIGTERM, which it ignores, then SIGKILL for its whole group; its worker is alive and takes the next job."""
    job_id = hodei("job", "submit", "--script", script(STUBBORN)).stdout.strip()
    told = "SELECT string_agg(content, '') FROM job_logs WHERE job_id = %s"
    wait_for(lambda: len((query.value(told, job_id) or "").split()) == 2, LONG)
    pids = [int(pid) for pid in query.value(told, job_id).split()]
    assert all(map(alive, pids))
    begun = time.monotonic()
    done = hodei("job", "cancel", job_id, "--reason", "enough")
    assert (done.returncode, done.stderr) == (0, "") and "is being stopped" in done.stdout
    row = finished(query, JobId(job_id))
    assert (row["state"], row["cancel_reason"], row["exit_code"]) == ("CANCELLED", "enough", 137)
    assert not any(map(alive, pids)) and time.monotonic() - begun < 30
    assert hodei("job", "submit", "--wait", "--", "true").returncode == 0
    assert query.value("SELECT count(*) FROM workers") == 1 == len(agents(query))
    assert f"has ended before: {'SUCCEEDED'}" in hodei("job", "cancel", _last(hodei)).stdout


def _last(hodei: Hodei) -> str:
    job_id: str = json.loads(hodei("job", "list", "--limit", "1", "--json").stdout)[0]["job_id"]
    return job_id


def test_a_job_that_waits_is_cancelled_by_its_command(hodei: Hodei, query) -> None:
    job_id = hodei("job", "submit", "--", "true").stdout.strip()
    assert hodei("job", "cancel", job_id).stdout == f"job {job_id} is CANCELLED\n"
    assert "CANCELLED" in hodei("job", "show", job_id).stdout
    done = hodei("job", "cancel", "00000000-0000-0000-0000-000000000000")
    assert done.returncode == 1 and "no job 00000000" in one_line(done)


@pytest.mark.slow
def test_the_output_of_a_running_job_is_followed(system, hodei: Hodei, processes, celery_environment, tmp_path) -> None:
    """Live: the first line is there before the job goes on to the second."""
    wait = f"echo first; until [ -e {tmp_path}/go ]; do sleep 0.1; done; echo second"
    job_id = hodei("job", "submit", "--", "sh", "-c", wait).stdout.strip()
    following = processes.start("following", [*HODEI, "job", "logs", "-f", job_id], celery_environment)
    wait_for(lambda: following.log() == "first\n", LONG, following.tail)
    assert following.running()
    (tmp_path / "go").touch()
    assert following.wait(LONG) == 0 and following.log() == "first\nsecond\n"


@pytest.mark.slow
def test_a_job_waits_for_a_provider_with_what_it_asks_for(system, hodei: Hodei, query) -> None:
    """It says why it waits; once a provider has the label, its worker is made with what the job asked for."""
    wait_for(lambda: query("SELECT * FROM providers"), LONG)
    asked = ("--require-label", "gpu=yes", "--cpu", "0.5", "--memory", "64M")
    job_id = hodei("job", "submit", *asked, "--", "true").stdout.strip()
    wait_for(lambda: query.value("SELECT blocked FROM jobs"), LONG)
    shown = hodei("job", "show", job_id).stdout
    assert "no provider can make a worker with gpu=yes, cpu 0.5, memory 64M" in shown
    assert hodei("job", "submit", "--wait", "--", "true").returncode == 0, "those behind it go on"
    provider_id = query.value("SELECT provider_id::text FROM providers")
    assert hodei("provider", "set", provider_id, "--label", "gpu=yes").returncode == 0
    assert "gpu=yes" in hodei("provider", "list").stdout
    row = finished(query, JobId(job_id))
    assert (row["state"], row["blocked"]) == ("SUCCEEDED", None)
    spec = query.value("SELECT spec FROM workers WHERE worker_id = %s", row["worker_id"])
    assert (spec["labels"], spec["resources"]) == ({"gpu": "yes"}, {"cpu": 0.5, "memory": 64 * 2**20})


def test_a_provider_is_changed_by_words(hodei: Hodei, rows, query) -> None:
    provider_id = str(rows.provider(labels={"old": "1"}))
    words = ("--label", "zone=a", "--no-label", "old", "--cpu", "8", "--memory", "2G", "--slots", "3", "--disable")
    assert hodei("provider", "set", provider_id, *words).returncode == 0
    (told,) = json.loads(hodei("provider", "list", "--json").stdout)
    assert (told["labels"], told["cpu"], told["memory"], told["capacity"], told["slots_left"], told["enabled"]) == (
        ({"zone": "a"}, 8.0, 2**31, 3, 3, False)
    )
    none = hodei("provider", "set", "00000000-0000-0000-0000-000000000000", "--slots", "1")
    assert none.returncode == 1 and "no provider 00000000" in one_line(none)
    assert "no number of bytes" in one_line(hodei("provider", "set", provider_id, "--memory", "big"))
    assert query.value("SELECT memory FROM providers") == 2**31


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (("--require-label", "gpu", "--", "true"), "--require-label 'gpu': write NAME=VALUE"),
        (("--require-label", "=yes", "--", "true"), "a label must have a name"),
        (("--cpu", "0", "--", "true"), "'cpu' must be a positive number"),
        (("--memory", "lots", "--", "true"), "--memory: 'lots' is no number of bytes"),
        (("--script", "/dev/null"), "'script' is empty"),
    ],
)
def test_what_cannot_be_asked_for_is_one_line(hodei: Hodei, query, words, complaint) -> None:
    done: subprocess.CompletedProcess[str] = hodei("job", "submit", *words)
    assert done.returncode == 2 and complaint in one_line(done)
    assert query.value("SELECT count(*) FROM jobs") == 0
