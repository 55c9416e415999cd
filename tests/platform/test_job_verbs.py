"""A job's life as verbs: each state only from the states before it, each change with its event."""

import pytest

from models import Answer, Job, JobNotFound
from sagas import IdempotencyKeyReused
from sagas.jobs.requirements import Requirements
from sagas.jobs.types import AssignmentId, JobCommand, JobId, JobOutcome, WorkerId
from tests.platform.conftest import ECHO


def state(query, job_id) -> str:
    return query.value("SELECT state FROM jobs WHERE job_id = %s", str(job_id))


def test_a_submitted_job_waits_and_is_told(rows, query, events) -> None:
    job_id = rows.job(priority=3, actor="me")
    (row,) = query("SELECT * FROM jobs")
    assert (row["state"], row["priority"], row["attempts"], row["actor"]) == ("PENDING", 3, 0, "me")
    assert row["command"] == {"argv": ["echo", "hi"], "env": {}, **dict.fromkeys(("script", "cwd", "stdin", "timeout"))}
    assert events(f"job:{job_id}") == ["JobSubmitted"]


def test_one_key_is_one_job(rows, query, events) -> None:
    first, second = rows.job(idempotency_key="k"), rows.job(idempotency_key="k")
    assert first == second and rows.job() != first
    assert rows.job(job_id=first) == first
    assert query.value("SELECT count(*) FROM jobs") == 2
    assert events(f"job:{first}") == ["JobSubmitted"]


def test_one_key_with_another_command_is_refused(rows) -> None:
    rows.job(idempotency_key="k")
    with pytest.raises(IdempotencyKeyReused, match="another command"):
        rows.job(idempotency_key="k", command=JobCommand(("false",)))
    with pytest.raises(IdempotencyKeyReused, match="other requirements"):
        rows.job(idempotency_key="k", requirements=Requirements({"gpu": "yes"}))


def test_a_job_and_its_event_are_committed_together_or_not_at_all(rows, records, query) -> None:
    """L6: job saved, event lost (or the reverse)."""
    with pytest.raises(RuntimeError), records() as r:
        r.jobs.submit(ECHO)
        raise RuntimeError("before the commit")
    assert query("SELECT * FROM jobs") == query("SELECT * FROM saga_events") == []


def test_the_life_of_a_job(rows, records, query, events) -> None:
    worker_id = rows.ready_worker(rows.provider())
    job_id, assignment_id = rows.assigned_job(worker_id)
    with records() as r:
        assert r.runs.accept(assignment_id) is Answer.COUNTED
        said = {"exit_code": 3, "error": "exit code 3", "log_lines": 7}
        assert r.runs.finish(job_id, worker_id, assignment_id, JobOutcome.FAILED, **said) is Answer.COUNTED
        assert r.workers.free(worker_id)
    (row,) = query("SELECT * FROM jobs")
    assert (row["state"], row["exit_code"], row["error"], row["log_lines"], row["attempts"]) == (
        ("FAILED", 3, "exit code 3", 7, 1)
    )
    assert row["assigned_at"] <= row["started_at"] <= row["finished_at"]
    assert query.value("SELECT state FROM workers") == "READY"
    assert events(f"job:{job_id}") == ["JobSubmitted", "JobStatusChanged", "JobAccepted", "JobFinished"]


def test_a_result_before_its_acceptance_counts(rows, records, query) -> None:
    """L5: the result arrives before the acceptance; twice; the acceptance late."""
    worker_id = rows.ready_worker(rows.provider())
    job_id, assignment_id = rows.assigned_job(worker_id)
    with records() as r:
        assert r.runs.finish(job_id, worker_id, assignment_id, JobOutcome.SUCCEEDED, exit_code=0) is Answer.COUNTED
    with records() as r:
        assert r.runs.finish(job_id, worker_id, assignment_id, JobOutcome.SUCCEEDED, exit_code=0) is Answer.KNOWN
        assert r.runs.accept(assignment_id) is Answer.KNOWN
    assert state(query, job_id) == "SUCCEEDED"


def test_the_first_result_stands(rows, records, query) -> None:
    """L5: a result after a time-out. L33: a duplicate gets the stored result."""
    worker_id = rows.ready_worker(rows.provider())
    job_id, assignment_id = rows.assigned_job(worker_id)
    with records() as r:
        assert r.runs.finish(job_id, worker_id, assignment_id, JobOutcome.TIMED_OUT) is Answer.COUNTED
        late = r.runs.finish(job_id, worker_id, assignment_id, JobOutcome.SUCCEEDED, exit_code=0)
    assert late is Answer.KNOWN
    assert state(query, job_id) == "TIMED_OUT"
    assert query.value("SELECT outcome FROM job_results") == "timed_out"


def test_the_result_of_an_old_assignment_is_refused_and_kept(rows, records, query, events) -> None:
    """L36: the old worker's late result is refused. L33: it is kept by its assignment."""
    provider_id = rows.provider()
    old_worker, new_worker = rows.ready_worker(provider_id), rows.ready_worker(provider_id)
    job_id, old = rows.assigned_job(old_worker)
    new = AssignmentId.new()
    with records() as r:
        assert r.jobs.unassign(job_id, old)
        assert r.jobs.assign(job_id, new_worker, new)
    with records() as r:
        assert r.runs.accept(old) is Answer.REFUSED
        assert r.runs.finish(job_id, old_worker, old, JobOutcome.SUCCEEDED, exit_code=0) is Answer.REFUSED
        assert r.runs.finish(job_id, old_worker, old, JobOutcome.SUCCEEDED, exit_code=0) is Answer.KNOWN
    assert state(query, job_id) == "ASSIGNED"
    (kept,) = query("SELECT * FROM job_results")
    assert (str(kept["assignment_id"]), kept["outcome"], kept["counted"]) == (str(old), "succeeded", False)
    assert events(f"job:{job_id}")[-1] == "JobResultRefused"


def test_a_result_names_its_own_worker(rows, records, query) -> None:
    provider_id = rows.provider()
    worker_id, other = rows.ready_worker(provider_id), rows.ready_worker(provider_id)
    job_id, assignment_id = rows.assigned_job(worker_id)
    with records() as r:
        assert r.runs.finish(job_id, other, assignment_id, JobOutcome.SUCCEEDED) is Answer.REFUSED
    assert state(query, job_id) == "ASSIGNED"


def test_a_result_for_a_job_that_nobody_knows_is_refused(rows, records, query) -> None:
    worker_id = rows.ready_worker(rows.provider())
    with records() as r:
        answer = r.runs.finish(JobId.new(), worker_id, AssignmentId.new(), JobOutcome.SUCCEEDED)
    assert answer is Answer.REFUSED
    assert query("SELECT * FROM job_results") == []


def test_only_a_waiting_job_is_assigned(rows, records, query) -> None:
    provider_id = rows.provider()
    first, second = rows.ready_worker(provider_id), rows.ready_worker(provider_id)
    job_id, assignment_id = rows.assigned_job(first)
    with records() as r:
        assert not r.jobs.assign(job_id, second, AssignmentId.new())
        assert not r.jobs.assign(JobId.new(), second, AssignmentId.new())
    assert query.value("SELECT assignment_id::text FROM jobs") == str(assignment_id)


def test_undoing_an_assignment_leaves_alone_a_job_whose_worker_has_answered(rows, records, query) -> None:
    """L28: a fast answer must not be undone by a dispatch that failed late."""
    worker_id = rows.ready_worker(rows.provider())
    job_id, assignment_id = rows.assigned_job(worker_id)
    with records() as r:
        r.runs.accept(assignment_id)
    with records() as r:
        assert not r.jobs.unassign(job_id, assignment_id)
    assert state(query, job_id) == "RUNNING"


def test_an_undone_assignment_costs_no_attempt_and_is_undone_once(rows, records, query) -> None:
    worker_id = rows.ready_worker(rows.provider())
    job_id, assignment_id = rows.assigned_job(worker_id)
    with records() as r:
        assert r.jobs.unassign(job_id, assignment_id)
        assert not r.jobs.unassign(job_id, assignment_id)
        assert r.workers.free(worker_id)
    (row,) = query("SELECT * FROM jobs")
    assert (row["state"], row["attempts"], row["worker_id"], row["assignment_id"]) == ("PENDING", 0, None, None)


def test_a_worker_has_one_job_at_a_time(rows, records) -> None:
    from sqlalchemy.exc import IntegrityError

    worker_id = rows.ready_worker(rows.provider())
    rows.assigned_job(worker_id)
    second = rows.job()
    with pytest.raises(IntegrityError, match="uq_jobs_live_worker"), records() as r:
        r.jobs.assign(second, worker_id, AssignmentId.new())


def test_two_dispatchers_get_two_jobs(rows, records) -> None:
    """L24: SKIP LOCKED inside the transaction: disjoint work."""
    rows.job(), rows.job()
    with records() as one, records() as other:
        first, second = one.jobs.claim_next_pending(), other.jobs.claim_next_pending()
        assert first is not None and second is not None and first.job_id != second.job_id
        assert one.jobs.claim_next_pending(skip=[first.job_id]) is None


def test_priority_first_then_age(rows, records) -> None:
    late, early, urgent = rows.job(priority=7), rows.job(), rows.job(priority=0)
    order: list[Job] = []
    for _ in range(3):
        with records() as r:
            job = r.jobs.claim_next_pending(skip=[one.job_id for one in order])
            assert job is not None
            order.append(job)
    assert [job.job_id for job in order] == [urgent, early, late]


def test_output_is_kept_in_order_and_once(rows, records, query) -> None:
    worker_id = rows.ready_worker(rows.provider())
    job_id, assignment_id = rows.assigned_job(worker_id)
    with records() as r:
        assert r.runs.log(job_id, assignment_id, [(2, "stderr", "two\n"), (1, "stdout", "one\n")]) == 2
        assert r.runs.log(job_id, assignment_id, [(2, "stderr", "two\n"), (3, "stdout", "no newline \0")]) == 1
        assert r.runs.log(JobId.new(), assignment_id, [(9, "stdout", "nobody's")]) == 0
    with records() as r:
        told = [(row.line_number, row.stream, row.content) for row in r.runs.output(job_id)]
        rest = [row.line_number for row in r.runs.output(job_id, assignment_id, after_line=2)]
    assert told == [(1, "stdout", "one\n"), (2, "stderr", "two\n"), (3, "stdout", "no newline \ufffd")]
    assert rest == [3]


def test_an_unknown_job_is_one_line(records) -> None:
    with records() as r, pytest.raises(JobNotFound, match="no job"):
        r.jobs.get(JobId.new())


def test_a_worker_without_a_job_has_none(rows, records) -> None:
    worker_id = rows.ready_worker(rows.provider())
    job_id, _ = rows.assigned_job(worker_id)
    with records() as r:
        job = r.runs.current(worker_id)
        assert job is not None and job.job_id == job_id
        assert r.runs.current(WorkerId.new()) is None
