"""Issue 4: runs that failed are repeated if that was asked for, up to `max_attempts`; the default is one run."""

import pytest

from models import Answer
from sagas.jobs.types import AssignmentId, JobId, JobOutcome, WorkerId
from tasks import reports
from tests.platform.test_dispatcher import later
from tests.platform.test_reports import told


def run_once(rows, job_id: JobId, worker_id: WorkerId) -> AssignmentId:
    """Assign it; the assignment."""
    assignment_id = AssignmentId.new()
    with rows.records() as records:
        assert records.jobs.assign(job_id, worker_id, assignment_id)
        assert records.workers.occupy(worker_id)
    return assignment_id


def job_row(query) -> dict:
    (row,) = query("SELECT * FROM jobs")
    return row


@pytest.mark.parametrize("outcome", ["failed", "timed_out", "cancelled"])
def test_by_default_the_first_result_is_the_last(platform, rows, query, outcome) -> None:
    worker_id, job_id = rows.ready_worker(rows.provider()), rows.job()
    reports.result(platform, told(worker_id, job_id, run_once(rows, job_id, worker_id), outcome))
    assert (job_row(query)["state"], job_row(query)["attempts"]) == (outcome.upper(), 1)


@pytest.mark.parametrize("outcome", ["failed", "timed_out"])
def test_a_run_that_failed_is_repeated_after_a_pause_until_the_attempts_are_used_up(
    platform, rows, query, events, outcome
) -> None:
    worker_id, job_id = rows.ready_worker(rows.provider()), rows.job(max_attempts=2, retry_failed=True)
    first = run_once(rows, job_id, worker_id)
    failed = {**told(worker_id, job_id, first, outcome), "exit_code": 3, "error": "exit code 3"}
    assert reports.result(platform, failed) is Answer.COUNTED
    row = job_row(query)
    assert (row["state"], row["attempts"], row["exit_code"], row["error"]) == ("PENDING", 1, 3, "exit code 3")
    assert row["wake_at"] is not None and row["not_before"] > row["created_at"]
    assert query.value("SELECT state FROM workers") == "READY", "it may have another job meanwhile"
    assert platform.dispatcher.dispatch_once().executions == [], "not at once"
    later(query, 1.5)
    assert len(platform.dispatcher.dispatch_once().executions) == 1
    second = run_once(rows, job_id, worker_id)
    assert job_row(query)["exit_code"] is None
    assert reports.result(platform, told(worker_id, job_id, second, outcome)) is Answer.COUNTED
    assert (job_row(query)["state"], job_row(query)["attempts"]) == (outcome.upper(), 2)
    kept = query("SELECT assignment_id, counted FROM job_results ORDER BY received_at")
    assert [(str(one["assignment_id"]), one["counted"]) for one in kept] == [(str(first), True), (str(second), True)]
    named = [name for name in events(f"job:{job_id}") if name != "JobStatusChanged"]
    assert named == ["JobSubmitted", "JobRunFailed", "JobFinished"]


def test_reports_of_a_run_that_was_repeated_change_nothing(platform, rows, query, inbox) -> None:
    """L5, L33: the result twice, the acceptance after it; while the job waits, and while it runs again."""
    worker_id, job_id = rows.ready_worker(rows.provider()), rows.job(retry_failed=True)
    first = run_once(rows, job_id, worker_id)
    failed = told(worker_id, job_id, first, "failed")
    assert reports.result(platform, failed) is Answer.COUNTED
    second: AssignmentId | None = None
    for again in (False, True):
        second = run_once(rows, job_id, worker_id) if again else None
        before = job_row(query)
        assert reports.result(platform, failed) is Answer.KNOWN
        assert reports.result(platform, {**failed, "outcome": "succeeded"}) is Answer.KNOWN
        assert reports.accepted(platform, str(worker_id), str(first)) is Answer.REFUSED
        assert job_row(query) == before
    assert second is not None
    assert reports.result(platform, told(worker_id, job_id, second, "succeeded")) is Answer.COUNTED
    assert job_row(query)["state"] == "SUCCEEDED"
    acknowledged = [told_["assignment_id"] for verb, told_ in inbox(worker_id) if verb == "ack_result"]
    assert acknowledged == [str(first)] * 5 + [str(second)]


def test_a_cancelled_run_is_never_repeated(platform, rows, query) -> None:
    worker_id, job_id = rows.ready_worker(rows.provider()), rows.job(retry_failed=True)
    with rows.records() as records:
        first = AssignmentId.new()
        records.jobs.assign(job_id, worker_id, first)
        records.runs.finish(job_id, worker_id, first, JobOutcome.CANCELLED)
    assert job_row(query)["state"] == "CANCELLED"


def test_pauses_grow_and_have_a_limit(rows, query) -> None:
    worker_id, job_id = rows.ready_worker(rows.provider()), rows.job(max_attempts=50, retry_failed=True)
    pauses = []
    for _ in range(9):
        with rows.records() as records:
            assignment_id = AssignmentId.new()
            records.jobs.assign(job_id, worker_id, assignment_id)
            records.runs.finish(job_id, worker_id, assignment_id, JobOutcome.FAILED)
        pauses.append(query.value("SELECT round(extract(epoch FROM not_before - saga_now())) FROM jobs"))
    assert pauses == pytest.approx([1, 2, 4, 8, 16, 32, 60, 60, 60], abs=1)


def test_nobody_may_ask_for_no_attempt(rows, query) -> None:
    with pytest.raises(ValueError, match="'max_attempts' must be at least 1"):
        rows.job(max_attempts=0)
    assert query.value("SELECT count(*) FROM jobs") == 0


def test_the_output_of_the_latest_run_is_the_jobs(rows, records) -> None:
    worker_id, job_id = rows.ready_worker(rows.provider()), rows.job(retry_failed=True)
    for number in (1, 2):
        with rows.records() as r:
            assignment_id = AssignmentId.new()
            r.jobs.assign(job_id, worker_id, assignment_id)
            r.runs.log(job_id, assignment_id, [(1, "stdout", f"run {number}\n")])
            r.runs.finish(job_id, worker_id, assignment_id, JobOutcome.FAILED)
    with records() as r:
        assert [row.content for row in r.runs.output(job_id)] == ["run 2\n"]
