"""The commit of a step claims the next one with it: one statement, and every rule of a claim (R3, R5, R9, R10, R12)."""

import uuid
from typing import Any

from sagas import Saga, SagaContext
from sagas.errors import StorageUnavailable
from sagas.registry import Registry
from sagas.runtime.runner import Runner
from sagas.settings import Settings
from sagas.store.definitions import register
from sagas.store.requests import Onward
from sagas.store.store import Store
from tests.store.lab import NODE, ONCE, PIVOT, TIME_LIMIT, Lab, Run, nothing

ALL = ("a", "b", "c")


def go_on(
    run: Run, step: str, attempt: uuid.UUID, *steps: str, then: uuid.UUID | None = None, **more: Any
) -> dict[str, Any]:
    return run.commit(step, attempt, onward=Onward(steps or ALL, then or uuid.uuid4()), **more)


def test_the_next_step_is_granted_as_by_a_claim_of_its_own(lab: Lab) -> None:
    """R5: the same answer as saga_claim gives for that attempt."""
    run, then = lab.run(a={}, b={}, c={}), uuid.uuid4()
    answer = go_on(run, "a", run.claim("a"), then=then, output={"n": 1})
    assert (answer["verdict"], answer["next"], answer["then"]["step"]) == ("committed", "continue", "b")
    asked = run.ask("b", attempt=then)
    # What is known of the saga since its first claim is not said again; the runner puts the two together (below).
    saga = ("saga_type", "version", "correlation_id", "actor", "started_at", "context", "shadow", "outputs", "first")
    assert answer["then"] == {key: value for key, value in asked.items() if key not in saga}
    assert run.states() == ["COMPLETED", "IN_PROGRESS", "PENDING"]
    run.commit("b", then)
    answer = go_on(run, "c", run.claim("c"))
    assert (answer["next"], "then" in answer, run.state) == ("end", False, "COMPLETED")


def test_the_runner_adds_what_is_known_of_the_saga(lab: Lab) -> None:
    """R5: a continued step is given what its own claim would have given it, outputs as they are stored included."""

    def act(ctx: SagaContext) -> dict[str, Any]:
        return {"pair": (1, 2)}

    saga = Saga("order")
    saga.step(act, name="a", timeout=TIME_LIMIT)
    saga.step(nothing, name="b", timeout=TIME_LIMIT)
    register(lab.engine, [saga], Settings())
    run = lab.start("order", {"sku": "A1"}, correlation_id="req-7", actor="checkout")
    report = Runner(lab.store, Registry([saga]), {}, Settings()).run(
        run.saga_id, "a", undo=False, by=NODE, may_go_on=lambda saga_type, version: ("b",)
    )
    assert report.then is not None
    assert report.then.claim == run.ask("b", attempt=report.then.attempt_id)
    assert report.then.claim["outputs"] == {"a": {"pair": [1, 2]}}


def test_a_lost_reply_is_said_again(lab: Lab) -> None:
    """R5: asked again, the outcome is on record and the same next attempt granted; nothing is done twice."""
    run, attempt, then = lab.run(a={}, b={}), uuid.uuid4(), uuid.uuid4()
    run.ask("a", attempt=attempt)
    first = go_on(run, "a", attempt, then=then)
    before = run.dump()
    second = go_on(run, "a", attempt, then=then)
    assert (second["verdict"], second["then"]) == ("recorded", first["then"])
    assert run.dump() == before
    assert run.step("b")["attempt"] == 1


def test_only_what_was_named_and_only_the_same_way(lab: Lab) -> None:
    """R9: a step that is not among them waits for its message; a saga that has turned round is not gone on with."""
    run = lab.run(a={}, b={}, c={})
    assert "then" not in go_on(run, "a", run.claim("a"), "c")
    assert run.states() == ["COMPLETED", "PENDING", "PENDING"]
    attempt = run.claim("b")
    run.cancel()
    answer = go_on(run, "b", attempt)
    assert (answer["next"], "then" in answer) == ("undo", False)
    assert run.row()["live_claims"] == 0


def test_a_failure_claims_nothing(lab: Lab) -> None:
    run = lab.run(a={}, b={})
    answer = go_on(run, "a", run.claim("a"), outcome="failed", retry_in=1.0)
    assert (answer["next"], "then" in answer) == ("again", False)
    assert run.row()["live_claims"] == 0


def test_a_late_attempt_claims_nothing(lab: Lab) -> None:
    """R4: whoever was taken over has no successor."""
    run = lab.run(a={}, b={})
    late = run.lose("a")
    assert go_on(run, "a", late)["verdict"] == "late"
    assert run.row()["live_claims"] == 0


def test_a_paused_saga_is_not_gone_on_with(lab: Lab) -> None:
    run = lab.run(a={}, b={})
    attempt = run.claim("a")
    lab.store.pause(run.saga_id, True, "wait", "tester")
    answer = go_on(run, "a", attempt)
    assert (answer["verdict"], "then" in answer) == ("committed", False)
    assert run.states() == ["COMPLETED", "PENDING"]


def test_a_saga_that_was_quiet_goes_on_again(lab: Lab) -> None:
    """R11: quiet_at stays in the row when it has passed; it does not send the saga by messages for ever."""
    run = lab.run(a={}, b={}, c={}, d={"attempts": 1})
    lab.store.take_over(run.saga_id, "a", run.claim("a"), "silent", early=True)
    quiet_at = run.row()["quiet_at"]
    assert "then" not in go_on(run, "a", run.claim("a"), "b")
    lab.advance((quiet_at - lab.now()).total_seconds() + 1)
    assert go_on(run, "b", run.claim("b"), "c")["then"]["step"] == "c"
    run.commit("c", run.step("c")["attempt_id"])
    run.do("d", outcome="failed")
    assert go_on(run, "c", run.claim("c", undo=True), then=uuid.uuid4(), undo=True)["then"]["step"] == "b"


def test_undos_go_on_in_reverse(lab: Lab) -> None:
    """P6, R18: what is undone next is the store's decision; the last one ends the saga."""
    run = lab.run(a={}, b={}, c={"undo": False}, d={"attempts": 1})
    run.do("a", "b", "c")
    run.do("d", outcome="failed")
    then = uuid.uuid4()
    answer = go_on(run, "b", run.claim("b", undo=True), then=then, undo=True)
    assert (answer["then"]["step"], answer["then"]["phase"]) == ("a", "undo")
    answer = go_on(run, "a", then, undo=True)
    assert (answer["next"], "then" in answer, run.state) == ("end", False, "COMPENSATED")


def test_the_outcome_waits_for_the_disk_and_so_does_a_claim_that_must(lab: Lab) -> None:
    """R13: one synchronous commit for both, whatever the next step is."""
    for kind in ({}, ONCE, PIVOT):
        run = lab.run(a={}, b=kind)
        attempt = run.claim("a")
        connection = lab.connect(autocommit=False)
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT saga_done(%s, 'a', %s, 'null', false, 10, %s, %s) AS answer",
                (str(run.saga_id), str(attempt), ["b"], str(uuid.uuid4())),
            )
            assert cursor.fetchone()["answer"]["then"]["step"] == "b"
            cursor.execute("SHOW synchronous_commit")
            assert cursor.fetchone()["synchronous_commit"] == "on"
        connection.commit()
        connection.close()
        assert run.states() == ["COMPLETED", "IN_PROGRESS"]


class Forgetful(Store):
    """The first reply to each commit is lost after PostgreSQL has done it."""

    forgotten = False

    def commit(self, *args: Any, **more: Any) -> dict[str, Any]:
        answer = super().commit(*args, **more)
        if not self.forgotten:
            self.forgotten = True
            raise StorageUnavailable("planned: the reply is lost")
        return answer


def test_the_runner_knows_of_its_claim_although_the_reply_was_lost(lab: Lab) -> None:
    """R5: asked again with the ids of the first time; otherwise a living process would hold a claim unknowingly."""
    saga = lab.define("order", a={}, b={})
    run = lab.start("order")
    runner = Runner(Forgetful(lab.engine), Registry([saga]), {}, Settings())
    report = runner.run(run.saga_id, "a", undo=False, by=NODE, may_go_on=lambda saga_type, version: ("b",))
    assert (report.verdict, report.then and report.then.step) == ("recorded", "b")
    assert report.then is not None
    assert str(run.step("b")["attempt_id"]) == str(report.then.attempt_id)
    runner.run(run.saga_id, "b", undo=False, by=NODE, granted=report.then)
    assert (run.state, run.step("b")["attempt"]) == ("COMPLETED", 1)
