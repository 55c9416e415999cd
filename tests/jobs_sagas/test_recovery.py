"""US-4.1 of the seed: the recovery saga's steps, over ports that remember."""

from datetime import datetime

import pytest

from sagas import CancelSaga, NotReady, PermanentError, SagaContext, SagaId, SagaType
from sagas.jobs.ports import CommandSender, JobBoard, RecoveryDesk
from sagas.jobs.provisioning import PROVIDER_QUEUE
from sagas.jobs.recovery import (
    PATIENCE,
    DetectHeartbeatTimeoutStep,
    MarkJobForReassignmentStep,
    NotConfirmed,
    ReassignJobStep,
    RecoverySaga,
    TerminateOldWorkerStep,
    new_worker,
    recovery_payload,
)
from sagas.jobs.termination import Reason, TerminationSaga
from sagas.jobs.types import AssignmentId, JobCommand, JobId, ProviderId, WorkerId, WorkerSpec

ECHO = JobCommand(("echo", "hi"))
SPEC = WorkerSpec("image:latest", "server:50051")
OUTPUTS = {"ProvisionNewWorker": {"outputs": {"PublishProvisionedEvent": {"worker_id": str(WorkerId.new())}}}}


class Desk:
    """Answers what it is told to, and remembers its verbs; so does it as the job board and as the sender."""

    def __init__(self) -> None:
        self.back = False
        self.there = True
        self.stopped = False
        self.place: tuple[ProviderId, str, WorkerSpec] | None = (ProviderId.new(), "here", SPEC)
        self.calls: list[str] = []

    def came_back(self, worker_id: WorkerId, since: datetime, session: object = None) -> bool:
        return self.back

    def heartbeat_missed(self, session: object, *ids: object) -> bool:
        return self.there

    def take_away(self, session: object, *ids: object) -> bool:
        self.calls.append("take_away")
        return self.there

    def replacement(self, job_id: JobId, worker_id: WorkerId):
        return self.place

    def reassign(self, job_id: JobId, worker_id: WorkerId, assignment_id: AssignmentId) -> None:
        self.calls.append(f"reassign {assignment_id}")

    def has_stopped(self, job_id: JobId, worker_id: WorkerId, assignment_id: AssignmentId) -> bool:
        self.calls.append(f"has_stopped {assignment_id}")
        return self.stopped

    def command(self, job_id: JobId) -> JobCommand:
        return ECHO

    def send_run_job(self, worker_id: WorkerId, assignment_id: AssignmentId, *_: object) -> None:
        self.calls.append(f"run {assignment_id}")

    def send_cancel_job(self, worker_id: WorkerId, assignment_id: AssignmentId, grace: float = 5) -> None:
        self.calls.append(f"cancel {assignment_id}")


@pytest.fixture
def desk() -> Desk:
    return Desk()


@pytest.fixture
def ctx(desk) -> SagaContext:
    payload = recovery_payload(JobId.new(), WorkerId.new(), AssignmentId.new(), "here")
    ctx = SagaContext(SagaId.new(), SagaType.RECOVERY, payload=payload, outputs=OUTPUTS, _session=object())
    ctx.ports = {RecoveryDesk: desk, JobBoard: desk, CommandSender: desk}
    return ctx


def test_recovery_saga_has_five_steps() -> None:
    """US-4.1 criteria 1 and 2."""
    saga = RecoverySaga()
    assert saga.name == SagaType.RECOVERY
    assert [step.name for step in saga.steps] == [
        "DetectHeartbeatTimeout",
        "MarkJobForReassignment",
        "ProvisionNewWorker",
        "ReassignJob",
        "TerminateOldWorker",
    ]
    assert saga.get("ProvisionNewWorker").child == SagaType.PROVISIONING
    assert [step.has_compensation for step in saga.steps] == [False, True, True, True, False]
    assert all(step.is_idempotent for step in saga.steps)


@pytest.mark.parametrize(
    "act",
    [
        DetectHeartbeatTimeoutStep().execute,
        MarkJobForReassignmentStep().execute,
        new_worker,
        ReassignJobStep().execute,
    ],
)
def test_a_worker_that_has_come_back_cancels_it(ctx, desk, act) -> None:
    """US-4.1 criterion 3: nothing has been done by the step then."""
    desk.back = True
    with pytest.raises(CancelSaga, match="has come back"):
        act(ctx)
    assert desk.calls == []


@pytest.mark.parametrize("step", [DetectHeartbeatTimeoutStep(), MarkJobForReassignmentStep()])
def test_a_job_that_is_no_longer_the_workers_cancels_it(ctx, desk, step) -> None:
    desk.there = False
    with pytest.raises(CancelSaga, match="no longer"):
        step.execute(ctx)


def test_the_new_worker_is_kept_for_this_saga_and_may_have_the_old_ones_slot(ctx, desk) -> None:
    payload = new_worker(ctx)
    assert payload["kept_for"] == str(ctx.saga_id)
    assert payload["replaces"] == ctx.payload["worker_id"] != payload["worker_id"]
    assert WorkerSpec.from_json(payload["spec"]) == SPEC


def test_without_room_it_waits(ctx, desk) -> None:
    desk.place = None
    with pytest.raises(NotReady, match="no provider has room"):
        new_worker(ctx)


def test_the_row_is_written_before_the_command_is_sent(ctx, desk) -> None:
    """L28; and a repetition has the same assignment id."""
    output = ReassignJobStep().execute(ctx)
    assert desk.calls == [f"reassign {output['assignment_id']}", f"run {output['assignment_id']}"]
    assert output["assignment_id"] != ctx.payload["assignment_id"]
    assert ReassignJobStep().execute(ctx) == output


def test_the_undo_waits_for_the_confirmation_but_not_for_ever(ctx, desk) -> None:
    step = ReassignJobStep()
    with pytest.raises(NotConfirmed):
        step.compensate(ctx)
    assert [call.split()[0] for call in desk.calls] == ["has_stopped", "cancel"]
    desk.stopped = True
    step.compensate(ctx)
    assert [call.split()[0] for call in desk.calls] == ["has_stopped", "cancel", "has_stopped"]
    desk.stopped, ctx.attempt = False, PATIENCE
    step.compensate(ctx)
    assert step.compensation_retry.max_attempts > PATIENCE


def test_the_point_of_no_return_is_one_transaction() -> None:
    assert RecoverySaga().get("TerminateOldWorker").transactional
    assert TerminateOldWorkerStep().transactional


def test_the_infrastructure_is_destroyed_on_its_host() -> None:
    assert TerminationSaga().get("DestroyInfrastructure").queue == PROVIDER_QUEUE


def test_a_reason_that_there_is_not_is_refused(ctx) -> None:
    """P12."""
    payload = {"worker_id": str(WorkerId.new()), "provider_host": "here", "reason": "boredom"}
    ctx.payload = payload
    with pytest.raises(PermanentError, match="'reason': 'boredom' is not a valid"):
        TerminationSaga().get("ConfirmLost").execute(ctx)
    assert [one for one in Reason if one.is_final] == [
        Reason.RECOVERED,
        Reason.GIVEN_UP,
        Reason.ZOMBIE,
        Reason.STRANDED,
    ]
