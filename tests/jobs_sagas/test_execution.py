"""US-3.1 of the seed: the execution saga's steps, over ports that remember."""

from typing import Any

import pytest

from sagas import PermanentError, SagaContext, SagaId, SagaType
from sagas.jobs.execution import ExecutionSaga, SendRunJobCommandStep, execution_payload
from sagas.jobs.ports import JobBoard
from sagas.jobs.types import AssignmentId, JobCommand, JobId, WorkerId

ECHO = JobCommand(("echo", "hi"))


class Board:
    """A board with one job."""

    def command(self, job_id: JobId) -> JobCommand:
        return ECHO


class Sender:
    """Remembers what it sends, and fails if told to."""

    def __init__(self, fail: bool = False) -> None:
        self.fail = fail
        self.sent: list[tuple] = []

    def send_run_job(self, worker_id, assignment_id, job_id, command) -> None:
        self.sent.append((worker_id, assignment_id, job_id, command))
        if self.fail:
            raise ConnectionError("no broker")


def context(**changes) -> tuple[SagaContext, JobId, WorkerId, AssignmentId]:
    ids = JobId.new(), WorkerId.new(), AssignmentId.new()
    payload = {**execution_payload(*ids), **changes}
    return SagaContext(SagaId.new(), SagaType.EXECUTION, payload=payload, ports={JobBoard: Board()}), *ids


def test_execution_saga_has_four_steps() -> None:
    saga = ExecutionSaga()
    assert saga.name == SagaType.EXECUTION
    assert [step.name for step in saga.steps] == [
        "ValidateJobState",
        "UpdateJobToAssigned",
        "SendRunJobCommand",
        "PublishJobAssigned",
    ]


def test_only_the_assignment_is_undone_and_rows_change_with_their_step() -> None:
    steps = ExecutionSaga().steps
    assert [step.has_compensation for step in steps] == [False, True, False, False]
    assert [step.transactional for step in steps] == [True, True, False, True]


def test_send_run_job_names_the_assignment_and_the_command() -> None:
    ctx, job_id, worker_id, assignment_id = context()
    sender: Any = Sender()
    SendRunJobCommandStep(sender).execute(ctx)
    assert sender.sent == [(worker_id, assignment_id, job_id, ECHO)]


def test_send_run_job_fails_with_its_sender() -> None:
    ctx, *_ = context()
    sender: Any = Sender(fail=True)
    with pytest.raises(ConnectionError):
        SendRunJobCommandStep(sender).execute(ctx)
    assert len(sender.sent) == 1


@pytest.mark.parametrize("worker_id", [None, "not a uuid", 7])
def test_an_id_that_is_none_is_refused_in_one_line(worker_id) -> None:
    """L11: ids are distinct types, and checked where they come in."""
    ctx, *_ = context(worker_id=worker_id)
    with pytest.raises(PermanentError, match="worker_id"):
        sender: Any = Sender()
        SendRunJobCommandStep(sender).execute(ctx)
