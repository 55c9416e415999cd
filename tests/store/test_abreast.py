"""Several sagas in one statement: each as if it had been asked alone (decision 0015)."""

import uuid
from typing import Any

import pytest

from sagas import SagaId
from sagas.jsontext import JsonText
from sagas.registry import Registry
from sagas.runtime.ended import Ended
from sagas.runtime.outcomes import Outcome
from sagas.runtime.runner import Runner
from sagas.settings import Settings
from sagas.store.requests import Attempt, Onward
from tests.store.lab import NODE, Lab, Run
from tests.store.test_cost import synchronous
from tests.store.test_done import differing, written

STEPS = ("one", "two", "three")


@pytest.fixture
def several(lab: Lab) -> list[Run]:
    """Four sagas of the same three steps."""
    lab.define("order", one={}, two={}, three={})
    return [lab.start("order", {"number": number}) for number in range(4)]


def claim(lab: Lab, runs: list[Run], version: int = 1, step: str = "one") -> dict[SagaId, dict[str, Any] | None]:
    asked = {run.saga_id: uuid.uuid4() for run in runs}
    return dict(zip(asked, lab.store.claim_many(asked, version, step, NODE), strict=True))


def done(run: Run, step: str, attempt: uuid.UUID, then: str | None = None, **more: Any) -> Attempt:
    onward = Onward((then,), uuid.uuid4()) if then else None
    return Attempt(run.saga_id, step, attempt, more.get("output", "null"), more.get("events", []), onward)


def test_what_is_claimed_together_is_as_claimed_alone(lab: Lab, several: list[Run]) -> None:
    alone, *together = several
    expected = alone.ask("one")
    answers = claim(lab, together)
    for run in together:
        assert answers[run.saga_id] == {**expected, "context": run.row()["context"]}
        assert differing([written(run)], [written(alone)]) == [
            (0, key, written(run)[key], written(alone)[key]) for key in ("saga 0 context",)
        ]


def test_the_same_attempts_again_get_the_same_answers(lab: Lab, several: list[Run]) -> None:
    """R5: the reply was lost."""
    asked = {run.saga_id: uuid.uuid4() for run in several}
    first = lab.store.claim_many(asked, 1, "one", NODE)
    assert lab.store.claim_many(asked, 1, "one", NODE) == first
    assert [run.step("one")["attempt"] for run in several] == [1] * 4


def test_who_was_stopped_or_is_of_another_version_is_not_claimed(lab: Lab, several: list[Run]) -> None:
    cancelled, paused, taken, free = several
    cancelled.cancel()
    lab.store.pause(paused.saga_id, True, None, None)
    taken.claim("one")
    verdicts = [answer and answer["verdict"] for answer in claim(lab, several).values()]
    assert verdicts == ["terminal", "paused", "claimed", "granted"]
    assert claim(lab, [lab.start("order")], version=2).popitem()[1] is None
    last = lab.start("order")
    lab.sql("UPDATE saga_steps SET attempt = 2 WHERE saga_id = %s", str(last.saga_id))
    assert claim(lab, [last]).popitem()[1] is None, "its last attempt may not be lost unbegun"
    assert free.state == "IN_PROGRESS"


def test_nobody_waits_for_a_row_that_another_holds(lab: Lab, several: list[Run]) -> None:
    """Two that hold several rows must not wait for each other."""
    connection = lab.connect(autocommit=False)
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT FROM saga_instances WHERE saga_id = %s FOR UPDATE", (str(several[1].saga_id),))
            answers = claim(lab, several)
    finally:
        connection.rollback()
        connection.close()
    assert [answer is None for answer in answers.values()] == [False, True, False, False]
    assert [run.state for run in several] == ["IN_PROGRESS", "PENDING", "IN_PROGRESS", "IN_PROGRESS"]


def test_what_is_done_together_is_written_as_alone(lab: Lab, several: list[Run]) -> None:
    """Every value of every row, and every answer, at each step."""
    alone, *together = several
    attempts = {run.saga_id: run.claim("one") for run in several}
    for step, then in zip(STEPS, (*STEPS[1:], None), strict=True):
        events = [("Mine", {"of": step})] if step == "two" else []
        onward = Onward((then,), uuid.uuid4()) if then else None
        expected = alone.commit(step, attempts[alone.saga_id], output={"n": 1}, events=events, onward=onward)
        batch = [done(run, step, attempts[run.saga_id], then, output='{"n": 1}', events=events) for run in together]
        answers = lab.store.commit_many(batch)
        assert answers == [expected] * 3
        again = lab.store.commit_many(batch)
        for one, other in zip(answers, again, strict=True):
            assert one and other
            assert (other["verdict"], other["next"]) == ("recorded", one["next"]), "its reply was lost (R5)"
            assert other.get("then") == one.get("then")
        for run in together:
            rest = {key for _, key, _, _ in differing([written(run)], [written(alone)])}
            assert rest == {"saga 0 context"}
        attempts |= {one.saga_id: one.onward.attempt_id for one in batch if one.onward}
        if onward:
            attempts[alone.saga_id] = onward.attempt_id
    assert {run.state for run in several} == {"COMPLETED"}


def test_each_has_its_own_answer(lab: Lab, several: list[Run]) -> None:
    """One goes on, one goes by a message, one was taken over, one was cancelled while it ran."""
    attempts = [run.claim("one") for run in several]
    lab.store.take_over(several[2].saga_id, "one", attempts[2], "the test says so")
    assert several[3].cancel() == "compensating"
    answers = lab.store.commit_many(
        [
            done(run, "one", attempt, "two" if run is not several[1] else None)
            for run, attempt in zip(several, attempts, strict=True)
        ]
    )
    assert None not in answers
    assert [(one["verdict"], one["next"]) for one in answers if one] == [
        ("committed", "continue"),
        ("committed", "continue"),
        ("late", "wait"),
        ("committed", "undo"),
    ]
    on, by_message, _, back = [one or {} for one in answers]
    assert on["then"]["step"] == "two" and "then" not in by_message
    assert by_message["route"] and back["route"]
    assert several[3].state == "COMPENSATING"


def test_a_last_attempt_is_not_claimed_to_wait(lab: Lab, several: list[Run]) -> None:
    one, other, *_ = several
    lab.sql("UPDATE saga_steps SET max_attempts = 1 WHERE saga_id = %s AND step_name = 'two'", str(one.saga_id))
    batch = [done(run, "one", run.claim("one"), "two") for run in (one, other)]
    first, second = lab.store.commit_many(batch)
    assert first and second
    assert (first["next"], "then" in first, "then" in second) == ("continue", False, True)


def test_what_was_claimed_with_a_lost_reply_is_granted_again(lab: Lab, several: list[Run]) -> None:
    """R5: also where its last attempt but one was claimed with it."""
    one = several[0]
    lab.sql("UPDATE saga_steps SET max_attempts = 2 WHERE saga_id = %s AND step_name = 'two'", str(one.saga_id))
    batch = [done(one, "one", one.claim("one"), "two")]
    (first,) = lab.store.commit_many(batch)
    (again,) = lab.store.commit_many(batch)
    assert first and again
    assert (again["verdict"], again.get("then")) == ("recorded", first["then"])


def test_nobody_waits_for_a_row_at_the_commit_either(lab: Lab, several: list[Run]) -> None:
    """R21: one client that stands still holds up one saga."""
    attempts = [run.claim("one") for run in several]
    connection = lab.connect(autocommit=False)
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT FROM saga_instances WHERE saga_id = %s FOR UPDATE", (str(several[1].saga_id),))
            batch = [done(run, "one", attempt) for run, attempt in zip(several, attempts, strict=True)]
            answers = lab.store.commit_many(batch)
    finally:
        connection.rollback()
        connection.close()
    assert [answer is None for answer in answers] == [False, True, False, False]
    assert [run.step("one")["state"] for run in several] == ["COMPLETED", "IN_PROGRESS", "COMPLETED", "COMPLETED"]
    assert several[1].commit("one", attempts[1])["verdict"] == "committed"


def given_back(lab: Lab, *runs: Run) -> list[Any]:
    batch = [Attempt(run.saga_id, "one", uuid.UUID(str(run.step("one")["attempt_id"]))) for run in runs]
    return lab.store.commit_many(batch)


def test_what_has_not_begun_is_as_if_nobody_had_claimed_it(lab: Lab, several: list[Run]) -> None:
    """No attempt is spent, nothing is held against it; it is due at once, by the message that the answer is for."""
    run, other, *_ = several
    before = written(run)
    run.claim("one")
    (answer,) = given_back(lab, run)
    assert (answer["verdict"], answer["next"]) == ("committed", "again")
    assert [hop["step"] for hop in answer["route"]] == list(STEPS)
    changed = {key for _, key, _, _ in differing([written(run)], [before]) if not key.startswith("event")}
    assert changed == {
        "saga 0 state",
        "saga 0 wake_at",
        "step 0 published_at",
        "step 0 look_at",
        "step 0 claimed_by",
        "step 0 started_at",
        "step 0 not_before",
    }
    assert run.event_types()[-1] == "StepGivenBack"
    run.do(*STEPS)
    other.claim("one")
    other.cancel()
    (answer,) = given_back(lab, other)
    assert (answer["next"], other.state, run.state) == ("end", "CANCELLED", "COMPLETED")


def test_a_step_that_was_given_back_has_all_its_time_to_become_ready(lab: Lab, several: list[Run]) -> None:
    """Its own NotReady counts from when it was first said."""
    run = several[0]
    run.claim("one")
    given_back(lab, run)
    lab.advance(60)
    attempt = run.claim("one")
    given_back(lab, run)
    attempt = run.claim("one")
    assert run.commit("one", attempt, "not_ready", retry_in=1.0)["next"] == "again"
    assert run.step("one")["state"] == "PENDING"


CLAIM_MANY = "SELECT saga_claim_many(%s::uuid[], 1, 'one', %s::uuid[], 'n', NULL, NULL, NULL, 10, NULL)"
COMMIT_MANY = "SELECT saga_commit_many(%s::uuid[], %s, %s::uuid[], %s, %s::text[], %s::text[], %s::uuid[], 10)"


def test_what_is_done_waits_for_the_disk(lab: Lab, several: list[Run]) -> None:
    """P1. A claim need not, also where it is granted again because a reply was lost."""
    ids = [str(run.saga_id) for run in several]
    attempts, nexts = [[str(uuid.uuid4()) for _ in several] for _ in range(2)]
    assert not synchronous(lab, CLAIM_MANY, ids, attempts)
    fixed = (ids, ["one"] * 4, attempts, ["null"] * 4, [None] * 4)
    assert synchronous(lab, COMMIT_MANY, *fixed, [None] * 4, [None] * 4)
    assert synchronous(lab, COMMIT_MANY, *fixed, ["two"] * 4, nexts)
    assert {run.step("two")["state"] for run in several} == {"IN_PROGRESS"}


def test_whose_row_is_held_is_asked_for_later(lab: Lab, several: list[Run]) -> None:
    """R21: the others go on meanwhile."""
    runner = Runner(lab.store, Registry([]), {}, Settings())
    outcome = Outcome("done", text=JsonText("null"))
    claim: dict[str, Any] = {"saga_type": "order", "version": 1, "phase": "forward"}
    ended = [Ended(run.saga_id, "one", run.claim("one"), claim, outcome) for run in several]
    connection = lab.connect(autocommit=False)
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT FROM saga_instances WHERE saga_id = %s FOR UPDATE", (str(several[1].saga_id),))
            reports = runner.commit_all(ended)
    finally:
        connection.rollback()
        connection.close()
    assert [report and report.next for report in reports] == ["continue", None, "continue", "continue"]
    assert runner.commit_alone(ended[1]).next == "continue"
