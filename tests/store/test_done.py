"""Where there is nothing to decide `saga_done` and `saga_undone` write what the rules (`saga_commit`) would write."""

import uuid
from typing import Any

import pytest

from sagas.store.requests import Onward
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
