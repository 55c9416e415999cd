"""wake_at is the least of everything the saga waits for: R6, promise P14."""

import itertools

import pytest

from tests.store.invariants import QUESTIONS, check
from tests.store.lab import LEASE, ONCE, PIVOT, Lab, Run


def due_in(run: Run) -> float:
    return float((run.row()["wake_at"] - run.lab.now()).total_seconds())


def test_a_new_saga_is_due_at_once(lab: Lab) -> None:
    """P1: nobody has published it yet."""
    assert due_in(lab.run(a={})) == 0


def test_a_new_saga_whose_caller_publishes_is_due_two_seconds_later(lab: Lab) -> None:
    """P2: if that message is lost, reconcile sends another."""
    lab.define("order", a={})

    assert due_in(lab.start("order", published=True)) == 2


def test_a_claim_is_due_when_its_lease_ends(lab: Lab) -> None:
    """It leaves the timer where it is; the look that comes too early puts it right, once."""
    run = lab.run(a={})
    run.claim("a")
    assert due_in(run) == 0

    assert lab.reconcile() == []
    assert due_in(run) == LEASE


def test_an_early_deadline_comes_first(lab: Lab) -> None:
    """R6: of lease and deadline the earlier."""
    run = lab.run(12.0, a={})
    run.claim("a")
    lab.reconcile()

    assert due_in(run) == 12


def test_an_open_pivot_s_deadline_waits_for_it(lab: Lab) -> None:
    """R16: nothing can be decided before."""
    run = lab.run(12.0, p=PIVOT)
    run.claim("p")
    lab.reconcile()

    assert due_in(run) == LEASE


def test_a_timer_that_is_earlier_than_what_is_waited_for_sends_nothing(lab: Lab) -> None:
    """R22: a message counts as lost two seconds after it was published, whenever its saga is looked at."""
    lab.define("order", a={}, b={})
    run = lab.start("order", published=True)
    lab.advance(1.5)
    run.do("a")
    assert due_in(run) == 0.5
    before = run.step("b")["look_at"]
    lab.advance(0.5)

    assert lab.reconcile() == []
    assert (due_in(run), run.step("b")["look_at"]) == (1.5, before)
    lab.advance(1.5)
    assert [one["known"] for one in lab.reconcile()] == [False]


def test_timers_that_come_too_early_are_put_right_at_once(lab: Lab) -> None:
    """P13: what runs takes up none of a tick's looks; and what is due for anything at all is not touched."""
    lab.define("order", timeout=100.0, a={}, b={})
    lab.define("hasty", timeout=2.0, a={})
    claimed, moved, late = (lab.start(name, published=True) for name in ("order", "order", "hasty"))
    back, paused = lab.start("order", published=True), lab.start("order", published=True)
    for run in (claimed, late, back, paused):
        run.claim("a")
    back.cancel()
    lab.advance(1.5)
    moved.do("a")
    lost, unpublished = lab.start("order", published=True), lab.start("order")
    lab.sql(
        "UPDATE saga_instances SET paused_at = saga_now(), wake_at = saga_now() WHERE saga_id = %s", str(paused.saga_id)
    )
    lab.sql("UPDATE saga_instances SET wake_at = saga_now() WHERE saga_id = %s", str(lost.saga_id))
    lab.sql("UPDATE saga_steps SET look_at = saga_now() WHERE saga_id = %s AND look_at IS NOT NULL", str(lost.saga_id))
    lab.advance(0.5)
    untouched = [run.dump() for run in (late, paused, lost, unpublished)]

    assert lab.store.put_right(100) == 2
    assert (due_in(claimed), due_in(moved)) == (LEASE - 2, 1.5)
    assert [run.dump() for run in (late, paused, lost, unpublished)] == untouched
    assert lab.store.put_right(100) == 0
    for run in (claimed, moved, back, lost, unpublished):
        check(lab, run.saga_id)


@pytest.mark.parametrize("pause", [0.0, 3.0])
def test_a_claim_is_found_whoever_has_looked_meanwhile(lab: Lab, pause: float) -> None:
    """R11: and a saga without one is not looked at for it once somebody has looked."""
    lab.define("order", a={}, b={})
    run = lab.start("order", published=True)
    found = "SELECT attempt_id FROM saga_claimed()"
    for step in ("a", "b"):
        attempt = run.claim(step)
        lab.advance(pause)
        lab.reconcile()
        assert [str(one["attempt_id"]) for one in lab.sql(found)] == [str(attempt)]
        run.commit(step, attempt)
        assert lab.sql(found) == []
        if step == "a":
            assert run.row()["claimed"]
            lab.advance(3)
            lab.reconcile()
            assert not run.row()["claimed"]


def test_a_long_back_off_is_a_row(lab: Lab) -> None:
    """L44: a retry due in an hour survives every process being killed."""
    run = lab.run(a={})
    run.do("a", outcome="failed", retry_in=3600.0)

    assert due_in(run) == 3600
    assert lab.reconcile() == []
    lab.advance(3600)
    (found,) = lab.reconcile()
    assert (found["known"], found["route"][0]["step"]) == (True, "a")


def test_a_short_back_off_is_published_and_looked_at_soon_after(lab: Lab) -> None:
    """Section 6.6: the countdown is a shortcut, the row is the guarantee."""
    run = lab.run(a={})
    assert run.do("a", outcome="failed", retry_in=1.5)["next"] == "again"

    assert due_in(run) == 3.5


def test_a_back_off_is_cut_by_the_deadline(lab: Lab) -> None:
    """R6: an hour of back-off, a deadline in a minute."""
    run = lab.run(60.0, a={}, b={})
    run.do("a")
    run.do("b", outcome="failed", retry_in=3600.0)

    assert due_in(run) == 60


def test_a_saga_that_waits_for_a_message_is_looked_at_at_most_every_five_seconds(lab: Lab) -> None:
    """R22, P13: looked at, with what may have been lost; not published by its age."""
    run = lab.run(a={})
    (first,) = lab.reconcile()
    assert first["known"] is True
    pauses = []
    for _ in range(12):
        pause = due_in(run)
        pauses.append(pause)
        lab.advance(pause)
        (found,) = lab.reconcile()
        assert found["known"] is False

    assert max(pauses) == 5
    assert pauses == sorted(pauses)


def test_what_is_not_due_is_not_looked_at(lab: Lab) -> None:
    """P14: and reading it costs nothing."""
    run = lab.run(a={})
    lab.reconcile()
    before = run.dump()
    lab.advance(1)

    assert lab.reconcile() == []
    assert run.dump() == before


def test_reconcile_takes_at_most_its_limit_oldest_first(lab: Lab) -> None:
    """Section 6.9: bounded."""
    lab.define("order", a={})
    runs = []
    for _ in range(5):
        runs.append(lab.start("order"))
        lab.advance(1)

    answer = lab.store.reconcile(3)
    assert answer is not None
    assert answer.looked_at == 3
    assert [one["saga_id"] for one in answer.found] == [str(run.saga_id) for run in runs[:3]]
    assert [one["saga_id"] for one in lab.reconcile()] == [str(run.saga_id) for run in runs[3:]]


def test_what_a_look_found_nothing_for_counts_as_looked_at(lab: Lab) -> None:
    """P13: or the first of them would end the tick, whatever waits behind it."""
    lab.define("order", a={}, b={})
    runs = [lab.start("order") for _ in range(3)]
    runs[0].claim("a")
    lab.sql("UPDATE saga_instances SET wake_at = saga_now() - interval '1 s' WHERE saga_id = %s", str(runs[0].saga_id))

    answer = lab.store.reconcile(3)
    assert answer is not None
    assert (answer.looked_at, {one["saga_id"] for one in answer.found}) == (3, {str(run.saga_id) for run in runs[1:]})


def test_a_paused_saga_is_neither_moved_nor_forgotten(lab: Lab) -> None:
    """P14: paused is a column, not a state."""
    run = lab.run(a={})
    lab.sql("UPDATE saga_instances SET paused_at = saga_now()")

    assert run.verdict("a") == "paused"
    assert lab.reconcile() == []
    assert lab.store.hint(run.saga_id) is None


ENDS = ["done", "failed", "unknown", "not_ready", "cancel", "bad_output"]


@pytest.mark.parametrize("kind", [{}, ONCE, {"compensate_on_failure": True}, {"transactional": True}], ids=str)
def test_after_every_verb_it_is_due_in_time(lab: Lab, kind: dict) -> None:
    """R6 as a property: every end of a step, with every pause, then of its undo; the invariants after each."""
    lab.define("order", timeout=500.0, a={}, b=kind, c={})
    for outcome, pause in itertools.product(ENDS, (None, 0.0, 1.0, 7.0, 1000.0)):
        run = lab.start("order")
        run.do("a")
        run.do("b", outcome=outcome, retry_in=pause)
        check(lab, run.saga_id)
        run.cancel()
        check(lab, run.saga_id)
        for undo_outcome in ("not_ready", "unknown", "failed"):
            step = lab.sql("SELECT step_name AS n FROM saga_next_undo(%s)", str(run.saga_id))[0]["n"]
            if run.state == "COMPENSATING" and step and run.verdict(step, undo=True) == "granted":
                attempt = run.step(step)["attempt_id"]
                run.commit(step, attempt, undo_outcome, retry_in=pause)
                check(lab, run.saga_id)


def test_the_questions_can_be_answered_with_no(lab: Lab) -> None:
    """The invariants themselves: each finds a row that was bent."""
    bent = {
        "P3:": "UPDATE saga_instances SET live_claims = 0",
        "R11": "UPDATE saga_instances SET claimed = false",
        "P14, R6": "UPDATE saga_instances SET wake_at = saga_now() + interval '1 h'",
        "R6: not later": "UPDATE saga_instances SET wake_at = saga_now() + interval '1 h', deadline = saga_now()",
        "P6, R1": "UPDATE saga_steps SET effect_possible = true",
        "P9: at its end": "UPDATE saga_instances SET state = 'COMPLETED'",
        "P3: a step in progress": "UPDATE saga_steps SET lease_until = NULL",
    }
    forgotten = lab.run(a={})
    lab.sql("UPDATE saga_steps SET published_at = saga_now(), look_at = NULL")
    with pytest.raises(AssertionError, match="R22"):
        check(lab, forgotten.saga_id)
    for question, change in bent.items():
        run = lab.run(a={})
        run.claim("a")
        lab.sql(f"{change} WHERE saga_id = %s", str(run.saga_id))
        with pytest.raises(AssertionError, match=question):
            check(lab, run.saga_id)
    assert len(QUESTIONS) == 16
