"""Issue 4: a job is cancelled in every state, and its process is stopped (L30)."""

import pytest

from models import Answer, JobNotFound
from sagas import SagaState
from sagas.jobs.ports import CommandSender
from sagas.jobs.types import AssignmentId, JobId, JobOutcome
from tasks import due, reports
from tasks.due import cancel_job
from tests.platform.ports import TellingSender, refuse
from tests.platform.test_reports import beat, told


def job_row(query, job_id: JobId) -> dict:
    (row,) = query("SELECT * FROM jobs WHERE job_id = %s", str(job_id))
    return row


def lost(platform, monkeypatch) -> None:
    """From now on nothing reaches a worker."""
    monkeypatch.setattr(platform.sender, "send_cancel_job", refuse)


def test_a_job_that_waits_is_cancelled_at_once(platform, rows, query, events) -> None:
    job_id = rows.job()
    assert cancel_job(platform, job_id, "no longer wanted", "me").state == "CANCELLED"
    row = job_row(query, job_id)
    assert (row["state"], row["error"], row["wake_at"]) == ("CANCELLED", "no longer wanted", None)
    assert row["finished_at"] is not None
    rows.ready_worker(rows.provider())
    assert platform.dispatcher.dispatch_once().executions == []
    cancel_job(platform, job_id, "again")
    assert job_row(query, job_id) == row, "terminal is terminal"
    assert events(f"job:{job_id}") == ["JobSubmitted", "JobCancelRequested", "JobFinished"]


def test_a_job_that_nobody_knows_is_one_line(platform) -> None:
    with pytest.raises(JobNotFound, match="no job"):
        cancel_job(platform, JobId.new())


def test_before_its_saga_has_assigned_it_nothing_is_done(make_platform, rows, query) -> None:
    sender = TellingSender(lambda *_: None)
    platform = make_platform(ports={CommandSender: sender})
    job_id, worker_id = rows.job(), rows.ready_worker(rows.provider())
    saga_id = platform.dispatcher.assign_and_dispatch(job_id, worker_id)
    assert cancel_job(platform, job_id).state == "CANCELLED"
    assert platform.engine.orchestrator.drive(saga_id).outcome is SagaState.COMPENSATED
    assert (sender.sent, job_row(query, job_id)["state"]) == ([], "CANCELLED")
    assert query.value("SELECT state FROM workers") == "READY"


@pytest.mark.parametrize("fails", [True, False])
def test_in_the_midst_of_its_saga_it_is_not_sent_back_to_wait(make_platform, rows, query, inbox, events, fails) -> None:
    """L30, L16: while RUN_JOB is being sent. If that fails the job is undone to CANCELLED, not to another dispatch."""

    def cancelled_meanwhile(*_: object) -> None:
        assert cancel_job(platform, job_id).state == "ASSIGNED", "its worker has the last word"
        if fails:
            refuse()

    platform = make_platform(ports={CommandSender: TellingSender(cancelled_meanwhile)})
    job_id, worker_id = rows.job(), rows.ready_worker(rows.provider())
    saga_id = platform.dispatcher.assign_and_dispatch(job_id, worker_id)
    result = platform.engine.orchestrator.drive(saga_id)
    assert "cancel_job" in [verb for verb, _ in inbox(worker_id)]
    row = job_row(query, job_id)
    if fails:
        assert result.outcome is SagaState.COMPENSATED
        assert (row["state"], row["worker_id"]) == ("CANCELLED", None)
        assert query.value("SELECT state FROM workers") == "READY"
        assert events(f"job:{job_id}")[-1] == "JobFinished"
    else:
        assert (result.outcome, row["state"]) == (SagaState.COMPLETED, "ASSIGNED")
        told_so = told(worker_id, None, AssignmentId(row["assignment_id"]), "cancelled")
        assert reports.result(platform, told_so) is Answer.COUNTED
        assert job_row(query, job_id)["state"] == "CANCELLED"
    assert platform.dispatcher.dispatch_once().executions == []


@pytest.mark.parametrize("running", [True, False])
def test_a_message_that_is_lost_is_sent_again(platform, rows, query, inbox, monkeypatch, running) -> None:
    """P10: by the next heartbeat, and by the sweep of due jobs."""
    worker_id = rows.ready_worker(rows.provider())
    job_id, assignment_id = rows.assigned_job(worker_id)
    if running:
        reports.accepted(platform, str(worker_id), str(assignment_id))
    with monkeypatch.context() as broken:
        lost(platform, broken)
        assert cancel_job(platform, job_id).finished_at is None
    expected = [("cancel_job", {"assignment_id": str(assignment_id), "grace": 5})]
    beat(platform, worker_id, [assignment_id] if running else [])
    assert inbox(worker_id) == expected, "and no RUN_JOB for what is cancelled"
    query("UPDATE jobs SET wake_at = saga_now()")
    assert due.reconcile(platform) == 1
    assert inbox(worker_id) == expected
    assert reports.result(platform, told(worker_id, job_id, assignment_id, "cancelled")) is Answer.COUNTED
    assert job_row(query, job_id)["state"] == "CANCELLED"
    assert query.value("SELECT state FROM workers") == "READY"


def test_what_had_ended_before_the_message_came_stays_as_it_ended(platform, rows, query) -> None:
    worker_id = rows.ready_worker(rows.provider())
    job_id, assignment_id = rows.assigned_job(worker_id)
    cancel_job(platform, job_id)
    reports.result(platform, told(worker_id, job_id, assignment_id, "succeeded"))
    assert job_row(query, job_id)["state"] == "SUCCEEDED"


def test_a_cancelled_job_is_not_repeated(platform, rows, query) -> None:
    worker_id, job_id = rows.ready_worker(rows.provider()), rows.job(retry_failed=True)
    assignment_id = AssignmentId.new()
    with rows.records() as records:
        assert records.jobs.assign(job_id, worker_id, assignment_id)
    cancel_job(platform, job_id)
    with rows.records() as records:
        assert records.runs.finish(job_id, worker_id, assignment_id, JobOutcome.FAILED) is Answer.COUNTED
    assert job_row(query, job_id)["state"] == "FAILED"


def test_whatever_brings_a_cancelled_job_back_to_pending_it_is_not_run(platform, rows, query) -> None:
    """A reassignment, for instance: the dispatcher leaves it alone, the sweep ends it."""
    worker_id = rows.ready_worker(rows.provider())
    job_id, assignment_id = rows.assigned_job(worker_id)
    cancel_job(platform, job_id)
    with rows.records() as records:
        assert records.jobs.unassign(job_id, assignment_id)
        assert not records.jobs.assign(job_id, worker_id, AssignmentId.new())
        records.workers.free(worker_id)
    assert platform.dispatcher.dispatch_once().executions == []
    assert platform.dispatcher.assign_and_dispatch(job_id, worker_id) is None
    assert due.reconcile(platform) == 1
    assert job_row(query, job_id)["state"] == "CANCELLED"
