"""Several sagas in one statement: each as if it had been asked alone (decision 0015)."""

import uuid
from typing import Any

import pytest

from sagas import SagaId
from sagas.store.requests import Done, Onward
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


def done(run: Run, step: str, attempt: uuid.UUID, then: str | None = None, **more: Any) -> Done:
    onward = Onward((then,), uuid.uuid4()) if then else None
    return Done(run.saga_id, step, attempt, more.get("output", "null"), more.get("events", []), onward)


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
        answers = lab.store.done_many(batch)
        assert answers == [expected] * 3
        again = lab.store.done_many(batch)
        for one, other in zip(answers, again, strict=True):
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
    answers = lab.store.done_many(
        [
            done(run, "one", attempt, "two" if run is not several[1] else None)
            for run, attempt in zip(several, attempts, strict=True)
        ]
    )
    assert [(one["verdict"], one["next"]) for one in answers] == [
        ("committed", "continue"),
        ("committed", "continue"),
        ("late", "wait"),
        ("committed", "undo"),
    ]
    assert answers[0]["then"]["step"] == "two" and "then" not in answers[1]
    assert answers[1]["route"] and answers[3]["route"]
    assert several[3].state == "COMPENSATING"


CLAIM_MANY = "SELECT saga_claim_many(%s::uuid[], 1, 'one', %s::uuid[], 'n', NULL, NULL, NULL, 10, NULL)"
DONE_MANY = "SELECT saga_done_many(%s::uuid[], %s, %s::uuid[], %s, %s::text[], %s::text[], %s::uuid[], 10)"


def test_what_is_done_waits_for_the_disk(lab: Lab, several: list[Run]) -> None:
    """P1. A claim need not, also where it is granted again because a reply was lost."""
    ids = [str(run.saga_id) for run in several]
    attempts, nexts = [[str(uuid.uuid4()) for _ in several] for _ in range(2)]
    assert not synchronous(lab, CLAIM_MANY, ids, attempts)
    fixed = (ids, ["one"] * 4, attempts, ["null"] * 4, [None] * 4)
    assert synchronous(lab, DONE_MANY, *fixed, [None] * 4, [None] * 4)
    assert synchronous(lab, DONE_MANY, *fixed, ["two"] * 4, nexts)
    assert {run.step("two")["state"] for run in several} == {"IN_PROGRESS"}
