"""The agent's disk, its settings, and the platform's words."""

import subprocess
import sys
from pathlib import Path

import pytest

from agent.settings import AgentSettings
from agent.store import Store, write_durably
from sagas.jobs.types import (
    AssignmentId,
    JobCommand,
    JobId,
    JobOutcome,
    JobState,
    WorkerId,
    WorkerSpec,
    WorkerState,
)

ENV = {
    "HODEI_BROKER_URL": "redis://127.0.0.1:1/0",
    "HODEI_WORKER_ID": str(WorkerId.new()),
    "HODEI_WORKER_TOKEN": "token",
    "HODEI_AGENT_HOME": "home",
}


def test_an_assignments_life_on_disk(tmp_path: Path) -> None:
    store, assignment = Store(tmp_path), AssignmentId.new()
    assert not store.has(assignment)
    store.acknowledge(assignment)
    store.begin(assignment, {"job_id": "j"})
    assert (store.has(assignment), store.result(assignment), store.is_acknowledged(assignment)) == (True, None, False)
    store.acknowledge(assignment)
    assert not store.is_acknowledged(assignment)
    store.end(assignment, {"outcome": "succeeded"})
    store.acknowledge(assignment)
    again = Store(tmp_path)
    assert list(again.assignments()) == [assignment]
    assert (again.result(assignment), again.is_acknowledged(assignment)) == ({"outcome": "succeeded"}, True)
    assert again.instance_id() == store.instance_id()


def test_a_half_begun_assignment_was_never_had(tmp_path: Path) -> None:
    store, assignment = Store(tmp_path), AssignmentId.new()
    store.directory(assignment).mkdir()
    (store.directory(assignment) / "start.json.new").write_text('{"job')
    assert (store.has(assignment), list(store.assignments())) == (False, [])
    store.begin(assignment, {})
    assert store.has(assignment)


def test_a_write_that_fails_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "file.json"
    write_durably(path, {"a": 1})
    with pytest.raises(TypeError):
        write_durably(path, {"a": object()})
    assert path.read_text() == '{"a": 1}'


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"HODEI_BROKER_URL": "", "HODEI_WORKER_TOKEN": ""}, "set HODEI_BROKER_URL, HODEI_WORKER_TOKEN"),
        ({"HODEI_WORKER_ID": "x"}, "HODEI_WORKER_ID: WorkerId: 'x' is not a UUID"),
        ({"HODEI_WORKER_BEAT": "often"}, "HODEI_WORKER_BEAT must be a positive number of seconds"),
        ({"HODEI_WORKER_BEAT": "0"}, "HODEI_WORKER_BEAT must be a positive number of seconds"),
    ],
)
def test_wrong_settings_are_one_line_and_exit_1(change: dict[str, str], message: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=message):
        AgentSettings.from_env({**ENV, **change})
    done = subprocess.run(
        [sys.executable, "-m", "agent"],
        env={**ENV, **change},
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr.startswith(f"agent: {message}") and done.stderr.count("\n") == 1


def test_ids_are_values_of_a_type_of_their_own() -> None:
    worker_id = WorkerId.new()
    assert WorkerId(str(worker_id)) == worker_id and hash(WorkerId(worker_id)) == hash(worker_id)
    assert worker_id != WorkerId.new()
    with pytest.raises(ValueError, match="JobId: 'x' is not a UUID"):
        JobId("x")


def test_the_type_checker_tells_ids_apart(tmp_path: Path) -> None:
    """L11: a worker's id passed as a job's id."""
    calls = "def f(job: JobId) -> None: ...\nf(JobId.new())\nf(WorkerId.new())\n"
    code = f"from sagas.jobs.types import JobId, WorkerId\n{calls}"
    (tmp_path / "ids.py").write_text(code)
    command = [sys.executable, "-m", "mypy", "--follow-imports=silent", "--no-incremental", str(tmp_path / "ids.py")]
    done = subprocess.run(command, cwd=Path(__file__).parents[2], capture_output=True, text=True, check=False)
    errors = [line for line in done.stdout.splitlines() if "error" in line and "ids.py" in line]
    assert len(errors) == 1 and ":4: error" in errors[0] and 'expected "JobId"' in errors[0], done.stdout


JOB_EDGES = {
    "PENDING": "ASSIGNED FAILED CANCELLED",
    "ASSIGNED": "PENDING RUNNING SUCCEEDED FAILED TIMED_OUT CANCELLED",
    "RUNNING": "PENDING SUCCEEDED FAILED TIMED_OUT CANCELLED",
}
WORKER_EDGES = {
    "CREATING": "CONNECTING TERMINATING",
    "CONNECTING": "READY TERMINATING",
    "READY": "BUSY DRAINING",
    "BUSY": "READY DRAINING",
    "DRAINING": "TERMINATING",
    "TERMINATING": "TERMINATED",
}


@pytest.mark.parametrize(("states", "edges"), [(JobState, JOB_EDGES), (WorkerState, WORKER_EDGES)])
def test_every_edge_and_no_other(states, edges: dict[str, str]) -> None:
    for source in states:
        allowed = {target for target in states if source.can_transition_to(target)}
        assert allowed == {states[name] for name in edges.get(source.name, "").split()}
        assert source.is_terminal == (source.name not in edges)


def test_outcomes_end_jobs() -> None:
    assert {outcome.job_state for outcome in JobOutcome} == {state for state in JobState if state.is_terminal}


def test_commands_and_specs_survive_json() -> None:
    command = JobCommand(("sh", "-c", "true"), {"A": "ñ"}, "/tmp", "in", 2.5)
    assert JobCommand.from_json(command.to_json()) == command
    assert JobCommand.from_json({"argv": ["true"]}) == JobCommand(("true",))
    script = JobCommand(("an argument",), script="#!/bin/sh\nexit 3\n")
    assert JobCommand.from_json(script.to_json()) == script
    assert JobCommand.from_json({"script": "true"}) == JobCommand((), script="true")
    assert (command.program, script.program) == ("sh", "#!/bin/sh")
    spec = WorkerSpec("image:latest", "server:50051", {"gpu": "yes"})
    assert WorkerSpec.from_json(spec.to_json()) == spec


@pytest.mark.parametrize(
    "data",
    [
        {},
        {"argv": "true"},
        {"argv": []},
        {"argv": [""]},
        {"argv": [1]},
        {"argv": ["a\0b"]},
        {"argv": ["true"], "env": {"A=B": "c"}},
        {"argv": ["true"], "env": {"A": 1}},
        {"argv": ["true"], "env": ["A"]},
        {"argv": ["true"], "cwd": 1},
        {"argv": ["true"], "stdin": 1},
        {"argv": [], "script": " "},
        {"argv": [], "script": 1},
        {"argv": ["true"], "timeout": 0},
        {"argv": ["true"], "timeout": True},
        {"argv": ["true"], "timeout": float("inf")},
        {"argv": ["true"], "timeout": "1"},
    ],
)
def test_what_is_not_a_command_is_refused_in_one_line(data: dict) -> None:
    with pytest.raises(ValueError, match=r"^job command: [^\n]*$"):
        JobCommand.from_json(data)


@pytest.mark.parametrize("data", [{}, {"image": "i"}, {"image": "i", "server_address": "s", "labels": {"a": 1}}])
def test_what_is_not_a_spec_is_refused(data: dict) -> None:
    with pytest.raises(ValueError, match="worker spec"):
        WorkerSpec.from_json(data)
