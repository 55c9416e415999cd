"""Where there is nothing to decide the plain ways write what the rules would write: `saga_done`, `saga_undone`,
`saga_failed`, `saga_hint`, and `saga_start` what `saga_create` writes.
"""

import uuid
from datetime import datetime
from typing import Any

import pytest

from sagas import SagaId
from sagas.store.requests import Onward, StartRequest
from tests.store.lab import ASKED, ONCE, PIVOT, Lab, Run

BY_THE_RULES = """
CREATE OR REPLACE FUNCTION {name}(
    p_saga uuid, p_step text, p_attempt uuid, p_output jsonb, p_ride boolean, p_margin double precision,
    p_steps text[] DEFAULT NULL, p_next uuid DEFAULT NULL, p_events jsonb DEFAULT '[]'
) RETURNS jsonb
LANGUAGE plpgsql VOLATILE AS $$
BEGIN
    RETURN saga_commit(p_saga, p_step, p_attempt, 'done', p_output, NULL, p_events, NULL, p_ride, p_steps, p_next,
        p_margin);
END $$
"""
KINDS: dict[str, dict[str, Any]] = {
    "plain": {},
    "once": ONCE,
    "asked": ASKED,
    "pivot": PIVOT,
    "transactional": {"transactional": True},
    "no undo": {"undo": False},
}
OWN = ("saga_id", "step_id", "event_id", "stream", "attempt_id", "last_attempt_id")
"""What differs from saga to saga."""


def written(run: Run) -> dict[str, Any]:
    """Each value of each row, by where it stands."""
    tables = zip(("saga", "step", "event"), run.dump(), strict=True)
    rows = {f"{table} {number}": row for table, rows in tables for number, row in enumerate(rows)}
    return {f"{where} {key}": row[key] for where, row in rows.items() for key in row if key not in OWN}


def play(lab: Lab, kinds: tuple[str, ...], onward: bool, ride: bool, timeout: float | None) -> list[dict[str, Any]]:
    """A saga of such steps, each claimed (by the commit before, if that may) and done; what was written each time."""
    names = [f"s{number}" for number in range(len(kinds))]
    saga_type = "_".join((*kinds, str(timeout and int(timeout)))).replace(" ", "_")
    steps: dict[str, Any] = {name: KINDS[kind] for name, kind in zip(names, kinds, strict=True)}
    lab.define(saga_type, timeout, **steps)
    saga = lab.start(saga_type)
    seen: list[dict[str, Any]] = []
    attempt: uuid.UUID | None = None
    for number, name in enumerate(names):
        attempt = attempt or saga.claim(name)
        seen.append(written(saga))
        then = Onward(tuple(names[number + 1 : number + 2]), uuid.uuid4()) if onward else None
        events = [("Mine", {"n": number, "none": None})] if number % 2 else None
        answer = saga.commit(name, attempt, output={"n": number}, events=events, ride=ride, onward=then)
        attempt = then.attempt_id if then and "then" in answer else None
        seen.append({key: answer.get(key) for key in ("verdict", "next", "route", "touched")} | written(saga))
    assert saga.state == "COMPLETED"
    return seen


def differing(these: list[dict[str, Any]], those: list[dict[str, Any]]) -> list[tuple[Any, ...]]:
    """(when, what, the one value, the other) of all that is not the same."""
    return [
        (number, key, one.get(key), other.get(key))
        for number, (one, other) in enumerate(zip(these, those, strict=True))
        for key in sorted({*one, *other})
        if one.get(key) != other.get(key)
    ]


@pytest.mark.parametrize("first", KINDS)
@pytest.mark.parametrize("ride", [False, True], ids=["", "ride"])
def test_what_is_done_is_written_as_the_rules_write_it(lab: Lab, first: str, ride: bool) -> None:
    """One engine: with every kind of step before every other, each value of each row is the same, and the answers."""
    ways = [((first, second, "plain"), False, ride, timeout) for second in KINDS for timeout in (None, 3600.0)]
    plain = [play(lab, *way) for way in ways]
    lab.sql(BY_THE_RULES.format(name="saga_done"))
    for way, expected in zip(ways, plain, strict=True):
        assert differing(play(lab, *way), expected) == [], way


@pytest.mark.parametrize("timeout", [None, 10.0, 3600.0], ids=["", "short", "long"])
@pytest.mark.parametrize("first", KINDS)
def test_what_is_claimed_with_it_is_as_by_a_claim_of_its_own(lab: Lab, first: str, timeout: float | None) -> None:
    """R3, R6, R16: commit and claim at once leave what one after the other leaves, and look no later."""
    for second in KINDS:
        at_once, apart = (play(lab, (first, second, "plain"), onward, True, timeout) for onward in (True, False))
        for one, other in zip(at_once[::2], apart[::2], strict=True):
            assert one.pop("saga 0 wake_at") <= other.pop("saga 0 wake_at")
            assert differing([one], [other]) == []
        assert differing(at_once[-1:], apart[-1:]) == []


def play_back(lab: Lab, kinds: tuple[str, ...], onward: bool, ride: bool) -> list[dict[str, Any]]:
    """A saga whose last step fails for good: its undos, each claimed (by the commit before, if that may) and done."""
    names = [f"s{number}" for number in range(len(kinds))]
    saga_type = "_".join(("back", *kinds)).replace(" ", "_")
    steps: dict[str, Any] = {name: KINDS[kind] for name, kind in zip(names, kinds, strict=True)}
    lab.define(saga_type, None, **steps, last={})
    saga = lab.start(saga_type)
    saga.do(*names)
    saga.do("last", outcome="failed")
    seen: list[dict[str, Any]] = [written(saga)]
    attempt: uuid.UUID | None = None
    for name in [name for name in reversed(names) if saga.step(name)["has_compensation"]]:
        attempt = attempt or saga.claim(name, undo=True)
        seen.append(written(saga))
        then = Onward(tuple(names), uuid.uuid4()) if onward else None
        events = [("Mine", {"undoes": name, "none": None})] if name == "s1" else None
        answer = saga.commit(name, attempt, events=events, ride=ride, onward=then, undo=True)
        attempt = then.attempt_id if then and "then" in answer else None
        seen.append({key: answer.get(key) for key in ("verdict", "next", "route", "touched")} | written(saga))
    assert saga.state == "COMPENSATED"
    return seen


BACK = [kind for kind in KINDS if kind != "pivot"]


@pytest.mark.parametrize("first", BACK)
def test_what_is_undone_is_written_as_the_rules_write_it(lab: Lab, first: str) -> None:
    """P6: the same on the way back, and with the next undo claimed at once."""
    ways = [((first, second, "plain"), False, ride) for second in BACK for ride in (False, True)]
    plain = [play_back(lab, *way) for way in ways]
    at_once = [play_back(lab, kinds, True, ride) for kinds, _, ride in ways]
    lab.sql(BY_THE_RULES.format(name="saga_undone"))
    for way, expected, onward in zip(ways, plain, at_once, strict=True):
        assert differing(play_back(lab, *way), expected) == [], way
        for one, other in zip(onward[1:-1:2], expected[1:-1:2], strict=True):
            assert one.pop("saga 0 wake_at") <= other.pop("saga 0 wake_at")
            assert differing([one], [other]) == []
        assert differing(onward[-1:], expected[-1:]) == []


NO_PLAIN_FAILURE = """
CREATE OR REPLACE FUNCTION saga_failed(p_saga uuid, p_step text, p_attempt uuid, p_error jsonb, p_retry_in float)
RETURNS jsonb LANGUAGE plpgsql VOLATILE AS $$ BEGIN RETURN NULL; END $$
"""
NO_PLAIN_HINT = """
CREATE OR REPLACE FUNCTION saga_hint(p_saga uuid) RETURNS jsonb
LANGUAGE plpgsql VOLATILE AS $$
BEGIN
    PERFORM FROM saga_instances WHERE saga_id = p_saga AND paused_at IS NULL FOR UPDATE;
    RETURN CASE WHEN FOUND THEN saga_look(p_saga, false) END;
END $$
"""
FAILING: dict[str, dict[str, Any]] = {**KINDS, "acts": {"compensate_on_failure": True}, "one try": {"attempts": 1}}
ERRORS: list[dict[str, Any]] = [
    {"type": "Planned", "message": "no", "traceback": None},
    {"type": "DeadlineExceeded", "message": "so it says"},
]
HOW: list[tuple[float | None, dict[str, Any], float | None, int]] = [
    (None, ERRORS[0], None, 0),
    (0.5, ERRORS[0], 3600.0, 0),
    (0.5, ERRORS[1], None, 1),
    (None, ERRORS[1], None, 1),
]
"""Retried after so many seconds or not; the error; the saga's time limit; attempts that were lost before."""


def play_failure(
    lab: Lab, kinds: tuple[str, ...], fails: str, how: tuple[float | None, dict[str, Any], float | None, int]
) -> list[dict[str, Any]]:
    """A saga whose last step fails, then two hints of what is due; what was written and answered each time."""
    retry_in, error, timeout, lost = how
    names = [f"s{number}" for number in range(len(kinds))]
    saga_type = "_".join(("fail", *kinds, "then", fails, str(timeout and int(timeout)))).replace(" ", "_")
    steps: dict[str, Any] = {name: KINDS[kind] for name, kind in zip(names, kinds, strict=True)}
    lab.define(saga_type, timeout, **steps, last=FAILING[fails], after={})
    saga = lab.start(saga_type, {"n": 1}, correlation_id="c", actor="somebody")
    saga.do(*names, output={"n": 1})
    for _ in range(lost):
        saga.lose("last")
    seen = []
    if saga.step("last")["state"] == "PENDING":
        answer = saga.commit("last", saga.claim("last"), "failed", error=error, retry_in=retry_in, ride=bool(lost))
        seen.append({key: answer.get(key) for key in ("verdict", "next", "route", "touched")} | written(saga))
    for seconds in (0, 1, 5):
        lab.advance(seconds)
        hint = lab.store.hint(saga.saga_id) or {}
        seen.append({key: hint[key] for key in hint if key != "saga_id"} | written(saga))
    return seen


def at(clock: Any, seen: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The same without what differs from saga to saga: times as seconds since then, and no attempt's id."""

    def plain(value: Any) -> Any:
        if isinstance(value, datetime):
            return (value - clock).total_seconds()
        return {key: value[key] for key in value if key != "attempt_id"} if isinstance(value, dict) else value

    return [{key: plain(value) for key, value in one.items() if key != "since"} for one in seen]


@pytest.mark.parametrize("fails", FAILING)
def test_a_failure_is_written_as_the_rules_write_it(lab: Lab, fails: str) -> None:
    """R1, R10, R16: the turn, and the hint of the first undo, of every kind of step after every other."""
    ways = [
        (kinds, fails, how)
        for kinds in [(), *((kind,) for kind in KINDS), ("plain", "no undo"), ("asked", "transactional", "plain")]
        for how in HOW
    ]

    def played() -> list[list[dict[str, Any]]]:
        return [at(lab.now(), play_failure(lab, *way)) for way in ways]

    plain = played()
    lab.sql(NO_PLAIN_FAILURE)
    lab.sql(NO_PLAIN_HINT)
    for way, expected, found in zip(ways, plain, played(), strict=True):
        assert differing(found, expected) == [], way


def test_a_failure_of_one_that_waits_for_others(lab: Lab) -> None:
    """R1: what may have acted is undone before what is done, as the rules have it."""
    run = lab.run(a={}, b={"attempts": 2}, c={})
    run.do("a")
    run.lose("b")
    assert run.do("b", outcome="failed")["next"] == "undo"
    assert [hop["step"] for hop in (lab.store.hint(run.saga_id) or {})["route"]] == ["b", "a"]


STARTS: list[dict[str, Any]] = [
    {},
    {"correlation_id": "c", "actor": "somebody", "metadata": {"x": [1, None]}},
    {"shadow": True},
]


@pytest.mark.parametrize("timeout", [None, 1.0, 3600.0])
@pytest.mark.parametrize("published", [False, True])
def test_a_start_is_written_as_many_are(lab: Lab, timeout: float | None, published: bool) -> None:
    """R8: one saga by `saga_start` is what `saga_create` makes of one."""
    kinds: dict[str, Any] = {kind.replace(" ", "_"): options for kind, options in KINDS.items()}
    lab.define("kinds", timeout, **kinds)
    queues: dict[str, Any] = {"queue": "to.{where}"}
    lab.define("routed", timeout, a=queues, b={}, c=queues)

    def started(number: int) -> list[dict[str, Any]]:
        seen = []
        for saga_type in ("kinds", "routed"):
            for fields in STARTS:
                key = f"k{number}" if "actor" in fields else None
                request = StartRequest(saga_type, {"where": "here"}, key, published=published, **fields)
                answer = lab.store.start(request)
                again = lab.store.start(request) if key else None
                found = {f"answer {key}": value for key, value in answer.items() if key != "saga_id"}
                assert again is None or (again["created"], again["saga_id"]) == (False, answer["saga_id"])
                seen.append({**found, **written(Run(lab, SagaId(answer["saga_id"])))})
                seen[-1].pop("saga 0 idempotency_key")
        return seen

    plain = started(1)
    lab.sql(BY_THE_SETS)
    assert differing(started(2), plain) == []


BY_THE_SETS = """
CREATE OR REPLACE FUNCTION saga_start(
    p_type text, p_payload jsonb, p_key text, p_correlation text, p_actor text, p_saga uuid, p_metadata jsonb,
    p_version integer, p_published boolean, p_route jsonb DEFAULT NULL
) RETURNS jsonb
LANGUAGE plpgsql VOLATILE AS $$
BEGIN
    RETURN saga_create(p_type, jsonb_build_array(jsonb_build_object('payload', p_payload, 'key', p_key, 'saga_id',
        p_saga)), p_correlation, p_actor, p_metadata, p_version, p_published) -> 0;
END $$
"""


def test_a_late_or_repeated_report_is_for_the_rules(lab: Lab) -> None:
    """P3, R5: nothing is written by the plain way for an attempt that is not the current one."""
    run = lab.run(a={}, b={})
    late = run.lose("a")
    assert run.commit("a", late)["verdict"] == "late"
    attempt = run.claim("a")
    assert run.commit("a", attempt)["verdict"] == "committed"
    before = run.dump()
    assert run.commit("a", attempt)["verdict"] == "recorded"
    assert run.dump() == before


@pytest.mark.parametrize("onward", [False, True], ids=["last", "onward"])
def test_an_attempt_that_is_not_the_live_one_moves_nothing(lab: Lab, onward: bool) -> None:
    """R4, R19: nothing of the saga's row but its timer, which is brought forward at most."""
    steps: dict[str, Any] = {"a": {}, "b": {}} if onward else {"a": {}}
    run = lab.run(3600.0, **steps)
    lost = run.lose("a")
    live = run.claim("a")
    lab.reconcile()
    before = written(run)
    then = Onward(("b",), uuid.uuid4()) if onward else None
    assert run.commit("a", lost, output={"late": True}, onward=then)["verdict"] == "late"
    after = written(run)
    assert after.pop("saga 0 wake_at") <= before.pop("saga 0 wake_at")
    assert [key for key in before if after[key] != before[key]] == []
    assert {key.split()[0] for key in after.keys() - before.keys()} == {"event"}
    answer = run.commit("a", live, output={"live": True}, onward=then)
    assert (answer["verdict"], answer["next"]) == ("committed", "continue" if onward else "end")
    assert run.step("a")["output_data"] == {"live": True}
