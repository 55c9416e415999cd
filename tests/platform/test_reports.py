"""What agents tell us: early, twice, late, for an old assignment; and what they are answered."""

import pytest

from models import Answer
from sagas.jobs.types import AssignmentId, JobId, WorkerId
from tasks import reports


@pytest.fixture
def at_work(rows, platform):
    """(worker, job, assignment) of a job that was dispatched and not accepted yet."""
    worker_id = rows.ready_worker(rows.provider())
    return worker_id, *rows.assigned_job(worker_id)


def told(worker_id: WorkerId, job_id: JobId | None, assignment_id: AssignmentId, outcome: str = "succeeded") -> dict:
    ids = {"worker_id": str(worker_id), "assignment_id": str(assignment_id), "job_id": str(job_id) if job_id else None}
    return {
        **ids,
        "outcome": outcome,
        "exit_code": 0,
        "error": None,
        "log_lines": 0,
        "started_at": "",
        "finished_at": "",
    }


def beat(platform, worker_id, assignments=(), results=(), instance="instance") -> None:
    reports.heartbeat(platform, str(worker_id), instance, [str(one) for one in assignments], results)


def test_a_result_is_acknowledged_each_time_it_comes(platform, at_work, inbox, query) -> None:
    """L33: a duplicate got an error, not the stored result, and good work was compensated."""
    worker_id, job_id, assignment_id = at_work
    answers = [reports.result(platform, told(worker_id, job_id, assignment_id)) for _ in range(3)]
    assert answers == [Answer.COUNTED, Answer.KNOWN, Answer.KNOWN]
    assert inbox(worker_id) == [("ack_result", {"assignment_id": str(assignment_id)})] * 3
    assert (query.value("SELECT state FROM jobs"), query.value("SELECT state FROM workers")) == ("SUCCEEDED", "READY")
    assert reports.accepted(platform, str(worker_id), str(assignment_id)) is Answer.KNOWN
    assert query.value("SELECT state FROM jobs") == "SUCCEEDED", "L5: an acceptance after the result"


def test_whoever_begins_an_old_assignment_is_told_to_stop(platform, at_work, rows, inbox, query) -> None:
    worker_id, job_id, assignment_id = at_work
    with rows.records() as records:
        records.jobs.unassign(job_id, assignment_id)
    assert reports.accepted(platform, str(worker_id), str(assignment_id)) is Answer.REFUSED
    assert inbox(worker_id) == [("cancel_job", {"assignment_id": str(assignment_id), "grace": 5})]
    late = told(worker_id, None, assignment_id, "cancelled")
    assert reports.result(platform, late) is Answer.REFUSED
    assert inbox(worker_id) == [("ack_result", {"assignment_id": str(assignment_id)})]
    assert query.value("SELECT state FROM jobs") == "PENDING"


def test_results_that_nobody_can_place_are_acknowledged_and_dropped(platform, rows, inbox, query) -> None:
    worker_id = rows.ready_worker(rows.provider())
    strangers = [told(worker_id, JobId.new(), AssignmentId.new()), told(WorkerId.new(), rows.job(), AssignmentId.new())]
    for one in strangers:
        assert reports.result(platform, one) is Answer.REFUSED
        assert [verb for verb, _ in inbox(one["worker_id"])] == ["ack_result"]
    assert query.value("SELECT count(*) FROM job_results") == 0


def test_an_assignment_that_a_live_worker_does_not_list_is_sent_again(platform, at_work, inbox) -> None:
    """L4: a job sent to a worker that was not there yet, and lost."""
    worker_id, job_id, assignment_id = at_work
    beat(platform, worker_id)
    ((verb, sent),) = inbox(worker_id)
    assert (verb, sent["job_id"], sent["assignment_id"]) == ("run_job", str(job_id), str(assignment_id))
    assert sent["command"]["argv"] == ["echo", "hi"]
    beat(platform, worker_id, [assignment_id])
    assert inbox(worker_id) == []
    beat(platform, worker_id, results=[told(worker_id, job_id, assignment_id)])
    assert [verb for verb, _ in inbox(worker_id)] == ["ack_result"]


def test_what_its_own_saga_is_about_to_send_is_not_sent_again(platform, rows, inbox, query) -> None:
    worker_id, job_id = rows.ready_worker(rows.provider()), rows.job()
    saga_id = platform.dispatcher.assign_and_dispatch(job_id, worker_id)
    with rows.records() as records:
        records.jobs.assign(job_id, worker_id, AssignmentId.new())
    beat(platform, worker_id)
    assert inbox(worker_id) == [], f"saga {saga_id} goes on"


def test_an_assignment_that_it_should_not_have_is_cancelled(platform, at_work, inbox) -> None:
    worker_id, _, assignment_id = at_work
    stray = AssignmentId.new()
    beat(platform, worker_id, [assignment_id, stray])
    assert inbox(worker_id) == [("cancel_job", {"assignment_id": str(stray), "grace": 5})]


def test_a_heartbeat_may_come_before_the_registration(platform, rows, records, inbox, query) -> None:
    """L3: a worker heartbeats or registers before it is registered."""
    from tests.platform.conftest import SPEC

    worker_id, provider_id = WorkerId.new(), rows.provider()
    with records() as r:
        r.workers.reserve(worker_id, provider_id, SPEC)
        token = r.workers.issue_token(worker_id)
    beat(platform, worker_id, instance="a")
    assert reports.registered(platform, str(worker_id), "a", token)
    assert reports.registered(platform, str(worker_id), "a", token), "its answer was lost"
    assert not reports.registered(platform, str(worker_id), "b", token)
    beat(platform, worker_id, instance="b")
    assert inbox(worker_id) == [("registered", {"worker_id": str(worker_id)})] * 2
    assert query.value("SELECT instance FROM workers") == "a"


@pytest.mark.parametrize("known", [True, False])
def test_an_agent_that_nobody_wants_is_told_to_end(platform, rows, records, inbox, known) -> None:
    """L13: infrastructure alive long after its worker was TERMINATED."""
    worker_id = rows.ready_worker(rows.provider()) if known else WorkerId.new()
    with records() as r:
        r.workers.unregister(worker_id)
    beat(platform, worker_id)
    assert not reports.registered(platform, str(worker_id), "instance", "token")
    assert inbox(worker_id) == [("shutdown", {})] * 2


def test_a_job_that_ends_while_its_worker_goes_leaves_it_going(platform, at_work, records, query) -> None:
    """L15: completion and termination race."""
    worker_id, job_id, assignment_id = at_work
    with records() as r:
        r.workers.retire(worker_id)
    assert reports.result(platform, told(worker_id, job_id, assignment_id)) is Answer.COUNTED
    assert query.value("SELECT state FROM jobs") == "SUCCEEDED"
    assert query.value("SELECT state FROM workers") == "TERMINATING"


def test_output_that_comes_twice_is_kept_once(platform, at_work, query) -> None:
    _, job_id, assignment_id = at_work
    batch = [[1, "stdout", "one\n"], [2, "stderr", "two\n"]]
    assert [reports.log(platform, str(job_id), str(assignment_id), batch) for _ in range(2)] == [2, 0]
    assert query.value("SELECT count(*) FROM job_logs") == 2
