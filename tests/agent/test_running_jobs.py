"""A job's command: its output, its exit code, its time, its end."""

import signal
import time

import pytest

from sagas.jobs.types import AssignmentId
from tests.agent.platform_side import PlatformSide
from tests.harness.processes import Process
from tests.harness.system import alive
from tests.harness.wait import wait_for

pytestmark = pytest.mark.usefixtures("agent")

STUBBORN = """
trap '' TERM
sh -c 'trap "" TERM; echo $$; exec sleep 300' &
setsid sh -c 'trap "" TERM; echo $$; exec sleep 300' &
echo $$
wait
"""


def pids(platform: PlatformSide, assignment: AssignmentId, count: int) -> list[int]:
    """The `count` pids that the job has printed."""
    wait_for(lambda: len(platform.output(assignment, "stdout").split()) >= count)
    return [int(pid) for pid in platform.output(assignment, "stdout").split()]


def test_a_job_is_accepted_run_and_reported(platform: PlatformSide) -> None:
    assignment = platform.run_job(["echo", "hello"])
    accepted, result = platform.wait("jobs.accepted", assignment), platform.wait("jobs.result", assignment)
    worker_id = str(platform.worker_id)
    assert accepted == {"assignment_id": str(assignment), "job_id": str(assignment), "worker_id": worker_id}
    assert result.pop("started_at") <= result.pop("finished_at")
    assert result == {**accepted, "outcome": "succeeded", "exit_code": 0, "error": None, "log_lines": 1}
    assert platform.complete_log({**result}) == [[1, "stdout", "hello\n"]]


def test_the_exit_code_of_a_failed_job(platform: PlatformSide) -> None:
    result = platform.wait("jobs.result", platform.run_job(["sh", "-c", "exit 3"]))
    assert (result["outcome"], result["exit_code"], result["error"]) == ("failed", 3, "exit code 3")


def test_a_job_killed_by_a_signal(platform: PlatformSide) -> None:
    result = platform.wait("jobs.result", platform.run_job(["sh", "-c", "kill -9 $$"]))
    assert (result["outcome"], result["exit_code"], result["error"]) == ("failed", 137, "killed by SIGKILL")


def test_both_streams_arrive_whole_and_apart(platform: PlatformSide) -> None:
    script = (
        "import sys\nfor i in range(5000): print(i, 'ñ€😀'); print(-i, file=sys.stderr)\nprint('x' * 100000, end='')"
    )
    result = platform.wait("jobs.result", platform.run_job(["python3", "-c", script]))
    records = platform.complete_log(result)
    assert [record[0] for record in records] == list(range(1, len(records) + 1))
    text = "".join(f"{i} ñ€😀\n" for i in range(5000)) + "x" * 100000
    assert "".join(record[2] for record in records if record[1] == "stdout") == text
    assert "".join(record[2] for record in records if record[1] == "stderr") == "".join(f"{-i}\n" for i in range(5000))


def test_bytes_that_are_not_text_and_nul_are_replaced(platform: PlatformSide) -> None:
    result = platform.wait("jobs.result", platform.run_job(["printf", r"a\377b\000c\303"]))
    assert "".join(record[2] for record in platform.complete_log(result)) == "a\ufffdb\ufffdc\ufffd"


def test_output_arrives_while_the_job_runs(platform: PlatformSide) -> None:
    assignment = platform.run_job(["sh", "-c", "printf half; exec sleep 300"])
    wait_for(lambda: platform.output(assignment, "stdout") == "half")
    assert not platform.all("jobs.result", assignment)


def test_environment_directory_and_input_of_a_job(platform: PlatformSide, tmp_path) -> None:
    script = "pwd; cat; echo $COLOUR; env | grep -c -e secret-token -e BROKER"
    assignment = platform.run_job(["sh", "-c", script], env={"COLOUR": "red"}, cwd=str(tmp_path), stdin="line ñ\n")
    result = platform.wait("jobs.result", assignment)
    assert "".join(record[2] for record in platform.complete_log(result)) == f"{tmp_path}\nline ñ\nred\n0\n"


@pytest.mark.parametrize("text", ["#!/bin/sh\necho $0 $1; exit 3\n", "echo $0 $1; exit 3", "#!/bin/no-such\n"])
def test_a_script_is_run_by_its_first_line_or_by_sh_and_is_gone_after(platform: PlatformSide, text: str) -> None:
    assignment = platform.run_job(["argument"], script=text)
    result = platform.wait("jobs.result", assignment)
    file = platform.home / "assignments" / str(assignment) / "script"
    output = "".join(record[2] for record in platform.complete_log(result))
    if "no-such" in text:
        assert (result["exit_code"], output) == (127, "command not found: #!/bin/no-such\n")
    else:
        assert (result["exit_code"], output) == (3, f"{file} argument\n")
    assert not file.exists()


def test_a_job_has_a_fresh_directory_of_its_own(platform: PlatformSide) -> None:
    for _ in range(2):
        result = platform.wait("jobs.result", platform.run_job(["sh", "-c", "ls -A; touch left"]))
        assert platform.complete_log(result) == []


@pytest.mark.parametrize(
    ("command", "exit_code", "error"),
    [
        ({"argv": ["no-such-program"]}, 127, "command not found: no-such-program"),
        ({"argv": ["/etc/passwd"]}, 126, "cannot run /etc/passwd: Permission denied"),
        ({"argv": ["true"], "cwd": "/no/such/place"}, 126, "working directory not found: /no/such/place"),
    ],
)
def test_what_cannot_be_started_fails_with_a_clear_line(
    platform: PlatformSide, command: dict, exit_code: int, error: str
) -> None:
    result = platform.wait("jobs.result", platform.run_job(**command))
    assert (result["outcome"], result["exit_code"], result["error"]) == ("failed", exit_code, error)
    assert platform.complete_log(result) == [[1, "stderr", f"{error}\n"]]


def test_what_is_not_a_command_is_a_failed_job(platform: PlatformSide) -> None:
    result = platform.wait("jobs.result", platform.run_job([]))
    assert (result["outcome"], result["exit_code"]) == ("failed", None)
    assert result["error"] == "job command: 'argv' must name a program"


def test_at_the_time_limit_nothing_of_a_stubborn_job_is_left(platform: PlatformSide) -> None:
    assignment = platform.run_job(["sh", "-c", STUBBORN], timeout=1)
    found = pids(platform, assignment, 3)
    result = platform.wait("jobs.result", assignment)
    assert (result["outcome"], result["exit_code"]) == ("timed_out", 137)
    assert result["error"] == "time limit of 1 s exceeded"
    assert not any(map(alive, found))


def test_at_the_time_limit_a_job_may_tidy_up(platform: PlatformSide) -> None:
    script = "trap 'echo bye; exit 4' TERM; while :; do sleep 0.05; done"
    result = platform.wait("jobs.result", platform.run_job(["sh", "-c", script], timeout=0.5))
    assert (result["outcome"], result["exit_code"]) == ("timed_out", 4)
    assert platform.complete_log(result)[-1][2] == "bye\n"


def test_what_a_finished_job_left_running_is_killed(platform: PlatformSide) -> None:
    assignment = platform.run_job(["sh", "-c", "sleep 300 & echo $!"])
    result = platform.wait("jobs.result", assignment)
    assert result["outcome"] == "succeeded"
    assert not alive(pids(platform, assignment, 1)[0])


def test_a_running_job_is_cancelled(platform: PlatformSide) -> None:
    """L30: cancelling a running job stops it on its worker, whatever it does about SIGTERM."""
    assignment = platform.run_job(["sh", "-c", STUBBORN])
    found = pids(platform, assignment, 3)
    platform.send("cancel_job", assignment_id=str(assignment), grace=0.2)
    result = platform.wait("jobs.result", assignment)
    assert (result["outcome"], result["error"]) == ("cancelled", "cancelled")
    assert not any(map(alive, found))


def test_a_second_cancel_shortens_the_grace(platform: PlatformSide) -> None:
    assignment = platform.run_job(["sh", "-c", STUBBORN])
    pids(platform, assignment, 3)
    begun = time.monotonic()
    platform.send("cancel_job", assignment_id=str(assignment), grace=60)
    platform.send("cancel_job", assignment_id=str(assignment), grace=0)
    assert platform.wait("jobs.result", assignment)["outcome"] == "cancelled"
    assert time.monotonic() - begun < 20


def test_heartbeats_name_the_live_assignments(platform: PlatformSide) -> None:
    assignments = [platform.run_job(["sleep", "300"]) for _ in range(2)]
    expected = sorted(map(str, assignments))
    wait_for(lambda: sorted(platform.all("workers.heartbeat")[-1]["assignments"]) == expected)


def test_sigterm_ends_the_jobs_and_then_the_agent(platform: PlatformSide, agent: Process) -> None:
    assignment = platform.run_job(["sh", "-c", STUBBORN])
    found = pids(platform, assignment, 3)
    agent.kill_main(signal.SIGTERM)
    assert agent.wait() == 0
    assert not any(map(alive, found))
    result = platform.wait("jobs.result", assignment)
    assert (result["outcome"], result["error"]) == ("failed", "agent stopped while the job was running")


def test_shutdown_ends_the_agent(platform: PlatformSide, agent: Process) -> None:
    platform.send("shutdown")
    assert agent.wait() == 0
