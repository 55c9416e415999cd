"""Messages may be early, late or twice, agent and broker may die: each job runs once, each result counts."""

import json
import signal

import pytest

from sagas.jobs.types import AssignmentId
from tests.agent.platform_side import PlatformSide
from tests.harness.processes import Process
from tests.harness.servers import BrokerServer
from tests.harness.system import alive
from tests.harness.wait import wait_for


def count_runs(path) -> list[str]:
    """A command that appends one line to `path` each time it is run."""
    return ["sh", "-c", f"echo run >> {path}"]


def test_registration_is_repeated_until_it_is_acknowledged(platform: PlatformSide) -> None:
    """L3: the platform may not know this worker yet when it registers first."""
    agent = platform.start_agent(beat=0.1)
    first, third = platform.wait("workers.register"), platform.wait("workers.register", count=3)
    assert first == third
    names = {"worker_id": str(platform.worker_id), "token": "secret-token", "pid": agent.main_pid}
    assert names.items() <= first.items() and first.keys() == {*names, "instance_id", "host"}
    platform.send("registered", worker_id=str(platform.worker_id))

    def only_heartbeats() -> bool:
        platform.forget()
        platform.wait("workers.heartbeat", count=2)
        return not platform.all("workers.register")

    wait_for(only_heartbeats)


def test_a_job_sent_before_the_agent_runs_is_kept(platform: PlatformSide) -> None:
    """L4: a job sent to a worker between its registration and its connection."""
    assignment = platform.run_job(["true"])
    platform.start_agent()
    assert platform.wait("jobs.result", assignment)["outcome"] == "succeeded"


def test_a_repeated_run_job_is_answered_and_not_run(platform: PlatformSide, agent: Process, tmp_path) -> None:
    """L33: a duplicate gets the stored result, also after its acknowledgement."""
    assignment = platform.run_job(count_runs(tmp_path / "runs"))
    result = platform.wait("jobs.result", assignment)
    platform.send("ack_result", assignment_id=str(assignment))
    platform.forget()
    platform.run_job(count_runs(tmp_path / "runs"), assignment)
    assert platform.wait("jobs.result", assignment) == result
    assert platform.wait("jobs.accepted", assignment)
    assert (tmp_path / "runs").read_text() == "run\n"


def test_a_run_job_repeated_while_it_runs_is_accepted_again(platform: PlatformSide, agent: Process, tmp_path) -> None:
    command = ["sh", "-c", f"echo run >> {tmp_path}/runs; exec sleep 300"]
    assignment = platform.run_job(command)
    platform.run_job(command, assignment)
    platform.wait("jobs.accepted", assignment, count=2)
    platform.send("cancel_job", assignment_id=str(assignment))
    platform.wait("jobs.result", assignment)
    assert (tmp_path / "runs").read_text() == "run\n"


def test_a_result_rides_in_every_heartbeat_until_it_is_acknowledged(platform: PlatformSide, agent: Process) -> None:
    assignment = platform.run_job(["true"])
    result = platform.wait("jobs.result", assignment)
    platform.forget()
    assert platform.wait("workers.heartbeat", count=3)["results"] == [result]
    platform.send("ack_result", assignment_id=str(assignment))
    wait_for(lambda: platform.all("workers.heartbeat")[-1]["results"] == [])


def test_results_survive_a_restart_of_the_agent(platform: PlatformSide, agent: Process, tmp_path) -> None:
    assignments = [platform.run_job(count_runs(tmp_path / "runs")) for _ in range(2)]
    results = [platform.wait("jobs.result", assignment) for assignment in assignments]
    platform.send("ack_result", assignment_id=str(assignments[0]))
    wait_for(lambda: platform.all("workers.heartbeat")[-1]["results"] == results[1:])
    before = platform.all("workers.heartbeat")[-1]["instance_id"]
    agent.kill()
    platform.forget()
    agent.restart()
    heartbeat = platform.wait("workers.heartbeat")
    assert (heartbeat["results"], heartbeat["instance_id"]) == (results[1:], before)
    platform.run_job(count_runs(tmp_path / "runs"), assignments[0])
    assert platform.wait("jobs.result", assignments[0]) == results[0]
    assert (tmp_path / "runs").read_text() == "run\n" * 2


@pytest.mark.parametrize("recorded", [True, False])
def test_an_agent_killed_in_mid_job_fails_the_job_after_its_restart(
    platform: PlatformSide, agent: Process, recorded: bool
) -> None:
    """Also when it died between starting the process and recording it."""
    script = "setsid sh -c 'echo $$; exec sleep 300' & echo $$; wait"
    assignment = platform.run_job(["sh", "-c", script])
    wait_for(lambda: len(platform.output(assignment, "stdout").split()) == 2)
    job = [int(pid) for pid in platform.output(assignment, "stdout").split()]
    agent.kill_main(signal.SIGKILL)
    assert all(map(alive, job))
    records = platform.records(assignment)
    if not recorded:
        (platform.home / "assignments" / str(assignment) / "process.json").unlink()
    platform.forget()
    agent.restart()
    result = platform.wait("jobs.result", assignment)
    assert result["error"] == "agent restarted while the job was running"
    sent = records[-1][0]
    assert (result["outcome"], result["exit_code"], result["log_lines"]) == ("failed", None, sent)
    assert not any(map(alive, job))
    assert platform.wait("workers.heartbeat")["assignments"] == []


def test_a_cancelled_job_that_never_came_is_not_run_later(platform: PlatformSide, agent: Process, tmp_path) -> None:
    """CANCEL_JOB overtakes RUN_JOB."""
    assignment = AssignmentId.new()
    platform.send("cancel_job", assignment_id=str(assignment))
    assert platform.wait("jobs.result", assignment)["outcome"] == "cancelled"
    platform.run_job(count_runs(tmp_path / "runs"), assignment)
    assert platform.wait("jobs.result", assignment, count=2)["outcome"] == "cancelled"
    assert not (tmp_path / "runs").exists()


def test_cancelling_what_has_ended_gets_its_result(platform: PlatformSide, agent: Process) -> None:
    assignment = platform.run_job(["true"])
    platform.wait("jobs.result", assignment)
    platform.send("cancel_job", assignment_id=str(assignment))
    assert platform.wait("jobs.result", assignment, count=2)["outcome"] == "succeeded"


def test_messages_that_make_no_sense_do_no_harm(platform: PlatformSide, agent: Process) -> None:
    platform.send("ack_result", assignment_id=str(AssignmentId.new()))
    platform.send("cancel_job", assignment_id="../../etc")
    platform.send("run_job", assignment_id="x", job_id="y", command={})
    platform.send("no_such_verb")
    assert platform.wait("jobs.result", platform.run_job(["true"]))["outcome"] == "succeeded"


def test_a_job_goes_on_while_the_broker_is_away(
    platform: PlatformSide, agent: Process, broker_server: BrokerServer, tmp_path
) -> None:
    """L19: nothing is lost, neither a result nor a line of the log."""
    go = tmp_path / "go"
    script = f"echo before; while [ ! -e {go} ]; do sleep 0.05; done; seq 20000; echo done > {tmp_path}/ended"
    assignment = platform.run_job(["sh", "-c", script])
    wait_for(lambda: platform.output(assignment, "stdout") == "before\n")
    broker_server.kill()
    go.touch()
    result_file = platform.home / "assignments" / str(assignment) / "result.json"
    wait_for(result_file.exists)
    assert agent.running()
    broker_server.start()
    result = platform.wait("jobs.result", assignment)
    assert result == json.loads(result_file.read_text())
    lines = "".join(record[2] for record in platform.complete_log(result)).splitlines()
    assert lines == ["before", *map(str, range(1, 20001))]
    later = platform.run_job(["true"])
    assert platform.wait("jobs.result", later, timeout=40)["outcome"] == "succeeded"


def test_the_agent_starts_without_a_broker_and_waits_for_it(
    platform: PlatformSide, broker_server: BrokerServer
) -> None:
    broker_server.stop()
    agent = platform.start_agent()
    log = platform.home / "agent.log"
    wait_for(lambda: log.exists() and "cannot send" in log.read_text(), 20)
    wait_for(lambda: "no broker (next try in 2.0 s)" in log.read_text(), 20)  # its longest pause
    assert agent.running()
    broker_server.start()
    assert platform.wait("workers.register", timeout=10)
    assert platform.wait("jobs.result", platform.run_job(["true"]), timeout=10)["outcome"] == "succeeded"


def test_sigterm_ends_an_agent_without_a_broker(
    platform: PlatformSide, agent: Process, broker_server: BrokerServer
) -> None:
    broker_server.stop()
    agent.kill_main(signal.SIGTERM)
    assert agent.wait(20) == 0


def test_sigterm_ends_an_agent_that_has_only_just_begun(platform: PlatformSide) -> None:
    """A provider may stop what it has started a moment ago; Celery's handler is not there yet."""
    agent = platform.start_agent()
    log = platform.home / "agent.log"
    wait_for(log.exists, 30)
    agent.kill_main(signal.SIGTERM)
    assert agent.wait(20) == 0


def test_a_second_agent_of_one_worker_is_refused(platform: PlatformSide, agent: Process) -> None:
    second = platform.start_agent()
    assert second.wait() == 1
    assert "agent: another agent of this worker is running" in second.log()
    assert agent.running()
