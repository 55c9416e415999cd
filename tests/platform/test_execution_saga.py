"""US-3.1: the execution saga on real rows, driven in the test's process, over senders that fail or answer at once."""

import pytest

from sagas import SagaState
from sagas.jobs.ports import CommandSender
from sagas.jobs.types import AssignmentId, JobId
from tasks import reports
from tests.platform.ports import TellingSender, refuse


@pytest.fixture
def sender() -> TellingSender:
    return TellingSender(lambda *_: None)


@pytest.fixture
def platform(make_platform, sender):
    return make_platform(ports={CommandSender: sender})


def dispatch(platform, rows):
    """A job and a READY worker, brought together: the job's id and the saga's result."""
    worker_id, job_id = rows.ready_worker(rows.provider()), rows.job()
    saga_id = platform.dispatcher.assign_and_dispatch(job_id, worker_id)
    assert saga_id is not None
    return job_id, platform.engine.orchestrator.drive(saga_id)


def job_row(query, job_id: JobId) -> dict:
    (row,) = query("SELECT * FROM jobs WHERE job_id = %s", str(job_id))
    return row


def test_a_job_gets_its_worker_and_its_command_is_sent(platform, sender, rows, query, events) -> None:
    job_id, result = dispatch(platform, rows)
    assert (result.outcome, result.steps_executed) == (SagaState.COMPLETED, 4)
    row = job_row(query, job_id)
    assert (row["state"], row["attempts"], [row["assignment_id"]]) == ("ASSIGNED", 1, [str(one) for one in sender.sent])
    assert query.value("SELECT state FROM workers") == "BUSY"
    assert events(f"job:{job_id}") == ["JobSubmitted", "JobStatusChanged", "JobAssigned"]


def test_a_command_that_cannot_be_sent_takes_the_job_back_to_pending(platform, sender, rows, query, events) -> None:
    """L16: PENDING again, not FAILED and not stuck in ASSIGNED, and dispatched by the next round."""
    sender.then = refuse
    job_id, result = dispatch(platform, rows)
    assert (result.outcome, result.steps_executed, result.compensations_executed) == (SagaState.COMPENSATED, 3, 1)
    row = job_row(query, job_id)
    assert (row["state"], row["attempts"], row["assignment_id"], row["worker_id"]) == ("PENDING", 0, None, None)
    assert query.value("SELECT state FROM workers") == "READY"
    assert "JobAssigned" not in events(f"job:{job_id}")

    sender.then = lambda *_: None
    (saga_id,) = platform.dispatcher.dispatch_once().executions
    assert platform.engine.orchestrator.drive(saga_id).outcome is SagaState.COMPLETED
    row = job_row(query, job_id)
    assert (row["state"], row["round"], row["assignment_id"]) == ("ASSIGNED", 1, str(sender.sent[-1]))
    assert sender.sent[-1] != sender.sent[0], "another try has another assignment"


def test_a_fast_answer_is_not_undone_by_a_dispatch_that_fails_late(platform, sender, rows, query) -> None:
    """L28: the answer comes before our commit; a fast answer compensated a live job."""

    def answer_and_fail(worker_id, assignment_id, job_id) -> None:
        ids = {"worker_id": str(worker_id), "assignment_id": str(assignment_id), "job_id": str(job_id)}
        reports.result(platform, {**ids, "outcome": "succeeded", "exit_code": 0, "log_lines": 0})
        reports.accepted(platform, str(worker_id), str(assignment_id))
        refuse()

    sender.then = answer_and_fail
    job_id, result = dispatch(platform, rows)
    assert result.outcome is SagaState.COMPENSATED
    row = job_row(query, job_id)
    assert (row["state"], row["exit_code"]) == ("SUCCEEDED", 0)
    assert query.value("SELECT state FROM workers") == "READY"


@pytest.mark.parametrize(
    ("busy", "steps", "why"), [("job", 1, "ASSIGNED, not PENDING"), ("worker", 2, "no longer READY")]
)
def test_what_is_no_longer_free_is_left_alone(platform, sender, rows, query, busy, steps, why) -> None:
    """US-3.1 criterion 2: a job that is not PENDING is refused by the first step, before anything is done."""
    provider_id = rows.provider()
    worker_id, job_id = rows.ready_worker(provider_id), rows.job()
    saga_id = platform.dispatcher.assign_and_dispatch(job_id, worker_id)
    with rows.records() as records:
        if busy == "worker":
            records.workers.occupy(worker_id)
        else:
            records.jobs.assign(job_id, rows.ready_worker(provider_id), AssignmentId.new())
    before = job_row(query, job_id)
    result = platform.engine.orchestrator.drive(saga_id)
    assert (result.outcome, result.steps_executed, sender.sent) == (SagaState.COMPENSATED, steps, [])
    assert why in (result.error or "")
    assert job_row(query, job_id) == before
