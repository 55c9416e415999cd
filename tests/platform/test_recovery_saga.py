"""US-4.1 of the seed: the recovery saga on real rows, driven in the test's process, over providers that remember."""

import uuid

import pytest

from sagas import SagaId, SagaState
from sagas.errors import StepTimeLimit
from sagas.jobs.ports import CommandSender, WorkerProvider
from sagas.jobs.types import AssignmentId, JobCommand, JobId, WorkerId
from sagas.runtime.process import claimant
from tasks import reports
from tests.platform.conftest import SPEC
from tests.platform.ports import FastAgents


class Sender:
    """Remembers commands; `on_run` is called with the ids of each RUN_JOB. A cancelled assignment is confirmed."""

    def __init__(self) -> None:
        self.run: list[tuple[WorkerId, AssignmentId]] = []
        self.cancelled: list[AssignmentId] = []
        self.on_run = lambda worker_id, assignment_id, job_id: None
        self.on_cancel = lambda worker_id, assignment_id: None

    def send_run_job(self, worker_id: WorkerId, assignment_id: AssignmentId, job_id: JobId, command: JobCommand):
        self.run.append((worker_id, assignment_id))
        self.on_run(worker_id, assignment_id, job_id)

    def send_cancel_job(self, worker_id: WorkerId, assignment_id: AssignmentId, grace: float = 5) -> None:
        self.cancelled.append(assignment_id)
        self.on_cancel(worker_id, assignment_id)


class Case:
    """A silent worker with a running job, and what happens to it."""

    def __init__(self, platform, provider, sender, rows, query, **options) -> None:
        self.platform, self.provider, self.sender, self.rows, self.query = platform, provider, sender, rows, query
        self.provider_id = rows.provider(options.pop("capacity", 2))
        self.old = rows.ready_worker(self.provider_id)
        provider.create_worker(self.old, SPEC, "token")
        self.job_id, self.assignment = rows.job(**options), AssignmentId.new()
        with rows.records() as records:
            assert records.jobs.assign(self.job_id, self.old, self.assignment)
            assert records.workers.occupy(self.old)
            records.runs.accept(self.assignment)
        self.silence()

    def silence(self) -> None:
        self.query(
            "UPDATE workers SET last_seen_at = saga_now() - interval '1 hour' WHERE worker_id = %s", str(self.old)
        )
        self.query("DELETE FROM hearings")
        self.query("INSERT INTO hearings VALUES ('heartbeats', saga_now() - interval '1 hour', saga_now())")

    def come_back(self, *_: object) -> None:
        """A heartbeat of the old worker, which still has the job."""
        reports.heartbeat(self.platform, str(self.old), "instance", [str(self.assignment)], [])

    def start(self) -> SagaId:
        (saga_id,) = self.platform.lifecycle.check_heartbeats().recoveries
        return saga_id

    def drive(self, saga_id: SagaId):
        return self.platform.engine.orchestrator.drive(saga_id)

    def terminate(self) -> list[str]:
        """Drive all termination sagas; how they ended."""
        rows = self.query("SELECT saga_id FROM saga_instances WHERE saga_type = 'termination'")
        return [str(self.drive(SagaId(row["saga_id"])).outcome) for row in rows]

    def finish(self, worker_id: object, assignment_id: object, outcome: str = "succeeded") -> object:
        told = {"worker_id": str(worker_id), "assignment_id": str(assignment_id), "job_id": str(self.job_id)}
        return reports.result(self.platform, {**told, "outcome": outcome, "exit_code": 0, "log_lines": 0})

    def read(self, sql: str, *values: object) -> list[dict]:
        """Rows, their ids as ids."""
        return [
            {name: uuid.UUID(value) if name.endswith("_id") and value else value for name, value in row.items()}
            for row in self.query(sql, *map(str, values))
        ]

    @property
    def job(self) -> dict:
        return self.read("SELECT * FROM jobs WHERE job_id = %s", self.job_id)[0]

    def state(self, worker_id: object) -> str:
        return self.query.value("SELECT state FROM workers WHERE worker_id = %s", str(worker_id))

    @property
    def others(self) -> list[dict]:
        return self.read("SELECT * FROM workers WHERE worker_id <> %s", self.old)

    def results(self) -> dict[uuid.UUID, bool]:
        return {r["assignment_id"]: r["counted"] for r in self.read("SELECT assignment_id, counted FROM job_results")}


@pytest.fixture
def make_case(make_platform, rows, query):
    def make(**options) -> Case:
        provider, sender = FastAgents(), Sender()
        platform = make_platform(ports={WorkerProvider: provider, CommandSender: sender}, register_timeout=1.0)
        case = Case(platform, provider, sender, rows, query, **options)
        provider.register = lambda worker_id, token: reports.registered(platform, str(worker_id), "new", token)
        return case

    return make


@pytest.fixture
def case(make_case) -> Case:
    return make_case()


def test_the_job_goes_to_a_new_worker_and_the_old_one_is_terminated(case, events) -> None:
    """US-4.1: nested provisioning, no orphan job, the old worker ends; L36: one assignment counts."""
    result = case.drive(case.start())
    assert (result.outcome, result.steps_executed) == (SagaState.COMPLETED, 5)
    (new,) = case.others
    assert case.sender.run == [(new["worker_id"], case.job["assignment_id"])]
    assert (case.job["state"], case.job["worker_id"], case.job["attempts"]) == ("ASSIGNED", new["worker_id"], 2)
    assert new["state"] == "BUSY" and case.job["lost_worker_id"] is None
    assert case.terminate() == ["COMPLETED"]
    assert case.state(case.old) == "TERMINATED"
    assert {one.worker_id for one in case.provider.find_workers()} == {new["worker_id"]}
    (child,) = case.query("SELECT * FROM saga_instances WHERE saga_type = 'provisioning'")
    assert (child["state"], str(child["parent_saga_id"])) == ("COMPLETED", str(result.saga_id))
    assert "WorkerHeartbeatMissed" in events(f"worker:{case.old}")
    assert events(f"worker:{case.old}")[-1] == "WorkerStatusChanged"
    assert events(f"job:{case.job_id}")[-3:] == ["JobReassignmentRequired", "JobStatusChanged", "JobAssigned"]
    assert case.finish(new["worker_id"], case.job["assignment_id"]) == "counted"
    assert (case.job["state"], case.state(new["worker_id"])) == ("SUCCEEDED", "READY")
    assert not case.platform.lifecycle.has_orphaned_workers()


def test_the_result_of_the_old_worker_is_refused_and_kept(case) -> None:
    """L36: late, after the termination: job_results has it with counted = false, and the new one counts."""
    case.drive(case.start())
    assert case.finish(case.old, case.assignment) == "refused"
    assert case.results() == {case.assignment: False}
    assert case.job["state"] == "ASSIGNED"
    assert case.finish(case.job["worker_id"], case.job["assignment_id"]) == "counted"
    assert sorted(case.results().values()) == [False, True]


def test_it_is_one_recovery_however_often_it_is_looked_for(case) -> None:
    """One saga per worker and assignment (L31)."""
    case.start()
    for _ in range(3):
        assert case.platform.lifecycle.check_heartbeats().recoveries == []
        assert case.platform.lifecycle.run_reconciliation().recoveries == []
    assert case.query.value("SELECT count(*) FROM saga_instances WHERE saga_type = 'recovery'") == 1


def test_the_dispatcher_leaves_a_job_alone_that_a_recovery_moves(case, rows) -> None:
    """L8, L9: the job is PENDING in the midst of it, and a worker is READY."""
    seen = []

    def look(worker_id, token) -> None:
        rows.ready_worker(case.provider_id)
        seen.append((case.job["state"], case.platform.dispatcher.dispatch_once().executions))
        reports.registered(case.platform, str(worker_id), "new", token)

    case.provider.register = look
    case.drive(case.start())
    assert seen == [("PENDING", [])]


@pytest.mark.parametrize("before", ["start", "mark", "provisioned", "sent"])
def test_a_worker_that_comes_back_keeps_its_job(case, before, inbox) -> None:
    """US-4.1 criterion 3: CANCELLED, nothing is terminated, the new worker is undone, the job is the old worker's."""
    saga_id = case.start()
    confirm = lambda worker_id, assignment_id: case.finish(worker_id, assignment_id, "cancelled")  # noqa: E731
    case.sender.on_cancel = confirm
    if before == "start":
        case.come_back()
    elif before == "mark":
        case.platform.engine.runner.run(saga_id, "DetectHeartbeatTimeout", undo=False, by=claimant())
        case.come_back()
    elif before == "provisioned":
        case.provider.register = lambda worker_id, token: (
            case.come_back(),
            reports.registered(case.platform, str(worker_id), "new", token),
        )
    else:
        case.sender.on_run = case.come_back
    result = case.drive(saga_id)
    assert result.outcome is SagaState.CANCELLED
    assert case.query.value("SELECT count(*) FROM saga_instances WHERE saga_type = 'termination'") == 0
    assert case.state(case.old) == "BUSY"
    assert {row["state"] for row in case.others} <= {"TERMINATED"}
    assert [one.worker_id for one in case.provider.find_workers()] == [case.old]
    job = case.job
    assert (job["worker_id"], job["assignment_id"], job["attempts"]) == (case.old, case.assignment, 1)
    assert case.assignment not in case.sender.cancelled
    assert len(case.sender.run) == (before == "sent"), "the new worker is not sent what the old one still has"
    case.come_back()
    told = [verb for verb, _ in inbox(case.old)]
    assert "cancel_job" not in told and "shutdown" not in told, "what the old worker runs is not stopped"
    assert case.job["state"] == "RUNNING"
    assert case.finish(case.old, case.assignment) == "counted"
    assert (case.job["state"], case.state(case.old)) == ("SUCCEEDED", "READY")


def test_a_result_that_was_refused_counts_when_the_recovery_is_cancelled(case) -> None:
    """Design 9: refused, kept by its assignment, and good again."""

    def back_with_a_result(worker_id, token) -> None:
        assert case.finish(case.old, case.assignment) == "refused"
        case.come_back()
        reports.registered(case.platform, str(worker_id), "new", token)

    case.provider.register = back_with_a_result
    assert case.drive(case.start()).outcome is SagaState.CANCELLED
    assert case.results() == {case.assignment: True}
    assert (case.job["state"], case.state(case.old)) == ("SUCCEEDED", "READY")


def test_a_new_worker_that_does_not_confirm_is_destroyed_all_the_same(case) -> None:
    """CANCEL_JOB is asked for again and again, but not for ever."""
    case.sender.on_run = case.come_back
    assert case.drive(case.start()).outcome is SagaState.CANCELLED
    assert len(case.sender.cancelled) > 3
    assert [one.worker_id for one in case.provider.find_workers()] == [case.old]


def test_a_worker_that_comes_back_when_its_job_has_ended_elsewhere_is_free(case) -> None:
    """There is nothing to undo: both live, the job has its one result."""

    def end_at_once(worker_id, assignment_id, job_id) -> None:
        assert case.finish(worker_id, assignment_id) == "counted"
        case.come_back()

    case.sender.on_run = end_at_once
    assert case.drive(case.start()).outcome is SagaState.COMPLETED
    assert [case.state(case.old), *(row["state"] for row in case.others)] == ["READY", "READY"]
    assert case.query.value("SELECT count(*) FROM saga_instances WHERE saga_type = 'termination'") == 0


def test_the_new_worker_may_have_the_slot_of_the_old_one(make_case) -> None:
    """A provider with a single slot recovers, too."""
    case = make_case(capacity=1)
    assert case.drive(case.start()).outcome is SagaState.COMPLETED


def test_a_recovery_that_fails_gives_the_job_back_and_is_tried_again_later(case) -> None:
    """No loop that spins: the next one is TRY_AGAIN seconds away."""
    case.provider.fail_create = 3
    first = case.start()
    assert case.drive(first).outcome is SagaState.COMPENSATED
    assert (case.job["state"], case.job["worker_id"], case.state(case.old)) == ("ASSIGNED", case.old, "BUSY")
    assert case.platform.lifecycle.check_heartbeats().recoveries == []
    case.query("UPDATE saga_instances SET completed_at = completed_at - interval '11 s' WHERE completed_at IS NOT NULL")
    second = case.start()
    assert second != first
    assert case.drive(second).outcome is SagaState.COMPLETED


@pytest.mark.parametrize(("wish", "state"), [(False, "FAILED"), (True, "CANCELLED")])
def test_a_job_without_another_attempt_ends_with_its_worker(make_case, wish, state) -> None:
    """It ends with a clear error, the worker is terminated, and a late result is kept only."""
    case = make_case(max_attempts=3 if wish else 1)
    if wish:
        with case.rows.records() as records:
            records.due.cancel(case.job_id, "not needed")
    done = case.platform.lifecycle.check_heartbeats()
    assert (len(done.recoveries), len(done.terminations)) == (0, 1)
    assert case.job["state"] == state
    assert case.job["error"] == ("not needed" if wish else case.job["error"]) and case.job["error"]
    assert wish or "all of its 1 attempts are used up" in case.job["error"]
    assert case.terminate() == ["COMPLETED"]
    assert (case.state(case.old), case.provider.find_workers()) == ("TERMINATED", [])
    assert case.finish(case.old, case.assignment) == "refused"


def test_a_job_that_is_cancelled_in_the_midst_is_not_assigned(case) -> None:
    """It has ended: no run of it, and the new worker is undone."""

    def cancel(worker_id, token) -> None:
        with case.rows.records() as records:
            records.due.cancel(case.job_id, "no")
        reports.registered(case.platform, str(worker_id), "new", token)

    case.provider.register = cancel
    assert case.drive(case.start()).outcome is SagaState.CANCELLED
    assert (case.job["state"], case.sender.run, case.state(case.old)) == ("CANCELLED", [], "READY")
    case.silence()
    case.platform.lifecycle.check_heartbeats()
    assert case.terminate() == ["COMPLETED"]
    assert case.state(case.old) == "TERMINATED"


def test_a_command_that_is_not_sent_undoes_the_assignment(case) -> None:
    """L16: RUN_JOB fails three times."""

    def refuse(*_: object) -> None:
        raise ConnectionError("no broker")

    case.sender.on_run = refuse
    case.sender.on_cancel = lambda worker_id, assignment_id: case.finish(worker_id, assignment_id, "cancelled")
    assert case.drive(case.start()).outcome is SagaState.COMPENSATED
    assert (case.job["state"], case.job["worker_id"], case.job["attempts"]) == ("ASSIGNED", case.old, 1)
    assert {row["state"] for row in case.others} == {"TERMINATED"}


def test_what_the_emit_methods_told_goes_through_record_step_event(case, monkeypatch) -> None:
    """US-4.2 criteria 3 and 4, US-5.1: one way to publish; the events of the seed by their names, none beside it."""
    told = []
    orchestrator = case.platform.engine.orchestrator
    record = orchestrator.record_step_event

    def remember(event, **options) -> None:
        told.append(event.event_type)
        record(event, **options)

    monkeypatch.setattr(orchestrator, "record_step_event", remember)
    case.drive(case.start())
    case.terminate()
    assert {"WorkerHeartbeatMissed", "JobReassignmentRequired", "WorkerStatusChanged"} <= set(told)
    named = ["WorkerHeartbeatMissed", "JobReassignmentRequired"]
    stored = case.query.value("SELECT count(*) FROM saga_events WHERE event_type = ANY(%s)", named)
    assert stored == len([one for one in told if one in named]) == 2
    assert not [name for name in dir(type(case.platform.lifecycle)) if name.startswith("emit")]


def test_a_reassignment_whose_attempt_was_lost_is_not_a_second_one(case) -> None:
    """L57: it was assigned and sent, and nobody recorded it: the same assignment again, one attempt of the job."""

    def lose(*_: object) -> None:
        case.sender.on_run = lambda *_: None
        raise StepTimeLimit("lost")

    case.sender.on_run = lose
    assert case.drive(case.start()).outcome is SagaState.COMPLETED
    assert len(case.sender.run) == 2 and len(set(case.sender.run)) == 1
    assert case.job["attempts"] == 2
    assert {row["state"] for row in case.others} == {"BUSY"}


def test_a_termination_that_fails_does_not_undo_the_job(case) -> None:
    """L14: destroy fails: the row of the old worker stays, the job goes on elsewhere."""
    case.provider.fail_destroy = 3
    assert case.drive(case.start()).outcome is SagaState.COMPLETED
    assert case.state(case.old) == "TERMINATING"
    assert case.finish(case.job["worker_id"], case.job["assignment_id"]) == "counted"
    assert case.terminate() == ["COMPLETED"]
    assert (case.state(case.old), case.provider.count("destroy_worker")) == ("TERMINATED", 4)


def test_nobody_else_uses_the_new_worker_while_it_may_be_undone(case, rows) -> None:
    """L32: READY before the job is assigned to it, and again when that has ended: another job does not get it."""
    saga_id, engine = case.start(), case.platform.engine
    for step in ("DetectHeartbeatTimeout", "MarkJobForReassignment", "ProvisionNewWorker"):
        engine.runner.run(saga_id, step, undo=False, by=claimant())
    (child,) = case.query("SELECT saga_id FROM saga_instances WHERE saga_type = 'provisioning'")
    case.drive(SagaId(child["saga_id"]))
    engine.store.hint(saga_id)
    rows.job()
    assert [row["state"] for row in case.others] == ["READY"]
    assert case.platform.dispatcher.dispatch_once().executions == []
    engine.runner.run(saga_id, "ReassignJob", undo=False, by=claimant())
    assert case.finish(case.job["worker_id"], case.job["assignment_id"]) == "counted"
    assert [row["state"] for row in case.others] == ["READY"]
    assert case.platform.dispatcher.dispatch_once().executions == []
    assert case.drive(saga_id).outcome is SagaState.COMPLETED
    assert len(case.platform.dispatcher.dispatch_once().executions) == 1
