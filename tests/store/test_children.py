"""A step that is a saga: R10, P9, and what a parent and its child may do to each other at any moment."""

import threading
from collections.abc import Callable
from typing import Any

import pytest

from sagas import DefinitionError, Saga, SagaId
from sagas.settings import Settings
from sagas.store.definitions import register
from tests.store.invariants import check
from tests.store.lab import LEASE, TIME_LIMIT, Lab, Run, build, nothing


class Family:
    """A parent (`before`, `kid`, `after`) and its child (`x`, `y`)."""

    def __init__(self, lab: Lab, **kid: Any) -> None:
        self.lab = lab
        child = build("kid_saga", **(kid or {"x": {}, "y": {}}))
        parent = build("parent", before={})
        parent.child("kid", "kid_saga", timeout=TIME_LIMIT)
        parent.step(name="after", timeout=TIME_LIMIT)(nothing).compensation(nothing)
        register(lab.engine, [parent, child], Settings())
        self.parent = lab.start("parent", correlation_id="c1", actor="tester")
        self.parent.do("before")

    def born(self) -> Run:
        """The child, as the commit of its step started it."""
        answer = self.parent.do("kid", outcome="child", output={"n": 1}, error=None)
        assert answer["next"] == "wait"
        return Run(self.lab, SagaId(answer["touched"]))

    def look(self) -> Any:
        """A hint for the parent, as the worker gives that ended the child."""
        found = self.lab.store.hint(self.parent.saga_id)
        self.check()
        return found

    def check(self) -> None:
        for row in self.lab.sql("SELECT saga_id FROM saga_instances"):
            check(self.lab, row["saga_id"])


@pytest.fixture
def family(lab: Lab) -> Family:
    return Family(lab)


def test_the_parent_waits_as_a_row_and_goes_on_with_the_childs_outputs(family: Family) -> None:
    """Design 4: no worker is held; the child has the parent's correlation and actor."""
    kid = family.born()
    assert (family.parent.step("kid")["state"], family.parent.step("kid")["lease_until"]) == ("WAITING", None)
    row = kid.row()
    assert (row["parent_saga_id"], row["correlation_id"], row["actor"]) == (family.parent.saga_id, "c1", "tester")
    assert row["context"]["payload"] == {"n": 1}
    family.check()

    kid.do("x", output={"made": 1})
    answer = kid.do("y")
    assert (answer["next"], answer["touched"]) == ("end", str(family.parent.saga_id))
    found = family.look()
    assert [hop["step"] for hop in found["route"]] == ["after"]
    output = family.parent.step("kid")["output_data"]
    assert output == {"saga_id": str(kid.saga_id), "outputs": {"x": {"made": 1}, "y": None}}
    family.parent.do("after")
    assert (family.parent.state, kid.state) == ("COMPLETED", "COMPLETED")


def test_reconcile_moves_the_parent_if_nobody_tells_it(family: Family) -> None:
    """P2, P14: whoever ended the child died at once; the end itself made the parent due."""
    kid = family.born()
    assert family.lab.reconcile()[0]["saga_id"] == str(kid.saga_id), "the child's own first message"
    kid.do("x", "y")
    assert str(family.parent.saga_id) in {found["saga_id"] for found in family.lab.reconcile()}
    assert family.parent.step("kid")["state"] == "COMPLETED"


def test_the_wake_is_lost_while_somebody_holds_the_parent(family: Family) -> None:
    """P14, R10: the child never waits for its parent's row; the parent's own look finds its end."""
    kid = family.born()
    other = family.lab.connect(autocommit=False)
    with other.cursor() as cursor:
        cursor.execute("SELECT FROM saga_instances WHERE saga_id = %s FOR UPDATE", (str(family.parent.saga_id),))
        kid.do("x", "y")
        other.rollback()
    other.close()
    family.lab.advance(5.1)
    family.lab.reconcile()
    assert family.parent.step("kid")["state"] == "COMPLETED"


@pytest.mark.parametrize("how", ["compensated", "cancelled"])
def test_a_child_that_went_back_fails_the_step(family: Family, how: str) -> None:
    """Design 4: its end fails the parent's step; nothing of it is left, so the step itself is not undone."""
    kid = family.born()
    kid.do("x")
    if how == "cancelled":
        assert kid.cancel() == "compensating"
    else:
        kid.do("y", outcome="failed")
    kid.undo("x")
    family.look()
    assert (family.parent.state, family.parent.step("kid")["state"]) == ("COMPENSATING", "FAILED")
    assert family.parent.step("kid")["error"]["type"] == "ChildFailed"
    family.parent.undo("before")
    assert family.parent.state == "COMPENSATED"


def test_cancel_of_the_parent_cancels_the_child_and_waits_for_it(family: Family) -> None:
    """R10 (trace): a parent ended CANCELLED while its child went on."""
    kid = family.born()
    kid.do("x")
    assert family.parent.cancel() == "compensating"
    assert kid.state == "COMPENSATING"
    assert family.parent.verdict("before", undo=True) == "claimed"
    family.lab.advance(6)
    family.lab.reconcile()
    assert family.parent.verdict("before", undo=True) == "claimed", "still not at its end"
    kid.undo("x")
    family.look()
    family.parent.undo("before")
    assert (family.parent.state, kid.state) == ("CANCELLED", "CANCELLED")
    assert family.parent.step("kid")["state"] in ("FAILED", "SKIPPED")


def test_cancel_before_the_child_began_ends_both(family: Family) -> None:
    """R10: PENDING to CANCELLED at once, and the parent hears of it."""
    kid = family.born()
    family.parent.cancel()
    assert kid.state == "CANCELLED"
    family.lab.reconcile()
    family.parent.undo("before")
    assert family.parent.state == "CANCELLED"
    family.check()


def test_cancel_while_the_payload_is_made_starts_no_child(family: Family) -> None:
    """P5: the saga goes back, and nothing more is begun."""
    attempt = family.parent.claim("kid")
    family.parent.cancel()
    answer = family.parent.commit("kid", attempt, "child", output={}, error=None)
    assert (answer["verdict"], answer["next"]) == ("committed", "undo")
    assert family.lab.value("SELECT count(*) FROM saga_instances") == 1
    family.parent.undo("before")
    family.check()


def test_a_lost_attempt_starts_no_child_and_the_next_one_starts_one(family: Family) -> None:
    """P3, R5: late, it is refused; told twice, it starts one."""
    late = family.parent.lose("kid")
    attempt = family.parent.claim("kid")
    assert family.parent.commit("kid", late, "child", output={}, error=None)["verdict"] == "late"
    answers = [family.parent.commit("kid", attempt, "child", output={}, error=None)["verdict"] for _ in range(2)]
    assert answers == ["committed", "recorded"]
    assert family.lab.value("SELECT count(*) FROM saga_instances") == 2
    assert family.parent.step("kid")["effect_possible"] is False
    family.check()


def going_back(family: Family) -> Run:
    """Parent and child where the step after the child has failed."""
    kid = family.born()
    kid.do("x", "y")
    family.look()
    family.parent.do("after", outcome="failed")
    return kid


def test_undoing_the_step_undoes_the_child(family: Family) -> None:
    """P6, P9: only its parent leaves its COMPLETED, as an event that says who; in reverse, before what came earlier."""
    kid = going_back(family)
    assert (kid.state, family.parent.step("kid")["state"]) == ("COMPENSATING", "COMPENSATING")
    told = [event for event in kid.events() if event["event_type"] == "SagaCompensating"]
    assert [event["actor"] for event in told] == [f"saga:{family.parent.saga_id}"]
    assert family.parent.verdict("before", undo=True) == "not_current"
    assert family.parent.verdict("kid", undo=True) == "child"
    kid.undo("y", "x")
    assert kid.state == "COMPENSATED"
    found = family.look()
    assert [hop["step"] for hop in found["route"]] == ["before"]
    family.parent.undo("before")
    assert (family.parent.state, family.parent.step("kid")["state"]) == ("COMPENSATED", "COMPENSATED")
    assert family.parent.event_types().count("StepCompensated") == 2


def test_reconcile_alone_undoes_the_child(family: Family) -> None:
    """P2: every hint is lost."""
    kid = going_back(family)
    assert str(kid.saga_id) in {found["saga_id"] for found in family.lab.reconcile()}
    kid.undo("y", "x")
    family.lab.advance(5.1)
    assert str(family.parent.saga_id) in {found["saga_id"] for found in family.lab.reconcile()}
    family.parent.undo("before")
    assert family.parent.state == "COMPENSATED"


def test_a_child_that_cannot_be_undone_waits_for_a_person(family: Family) -> None:
    """P6, R17: its undo ran out; the parent is FAILED, too, and lists it. Mended below, it goes on above."""
    kid = going_back(family)
    kid.undo("y", outcome="failed")
    assert kid.state == "FAILED"
    family.look()
    assert (family.parent.state, family.parent.row()["failed_from"]) == ("FAILED", "undo")
    assert [entry["step"] for entry in family.parent.row()["outstanding"]] == ["kid", "before"]

    failed = kid.step("y")
    kid.lab.store.mend(kid.saga_id, "force", "y", failed["attempt_id"], output=None, reason="by hand", actor="p")
    kid.undo("x")
    step = family.parent.step("kid")
    answer = family.lab.store.mend(
        family.parent.saga_id, "retry", "kid", step["attempt_id"], output=None, reason="mended", actor="p"
    )
    assert answer["verdict"] == "mended"
    family.parent.undo("before")
    assert (family.parent.state, kid.state) == ("COMPENSATED", "COMPENSATED")
    family.check()


def test_a_child_that_failed_for_good_leaves_its_step_to_be_undone(family: Family) -> None:
    """P6, R1: it was on its way back when its undo ran out; the parent goes back, stops there, and lists it."""
    kid = family.born()
    kid.do("x")
    kid.do("y", outcome="failed")
    kid.undo("x", outcome="failed")
    family.look()
    assert (family.parent.state, family.parent.row()["failed_from"]) == ("FAILED", "undo")
    assert "kid" in [entry["step"] for entry in family.parent.row()["outstanding"]]


def test_a_persons_retry_starts_a_new_child(lab: Lab) -> None:
    """A child's key carries the round, so that a retry does not find the old child."""
    family = Family(lab, x={"pivot": True, "undo": False}, y={"attempts": 1})
    kid = family.born()
    kid.do("x")
    kid.do("y", outcome="failed")
    assert kid.state == "FAILED"
    family.look()
    assert (family.parent.state, family.parent.row()["failed_from"]) == ("FAILED", "forward")
    attempt = family.parent.step("kid")["attempt_id"]
    lab.store.mend(family.parent.saga_id, "retry", "kid", attempt, output=None, reason="again", actor="p")
    second = family.born()
    assert second.saga_id != kid.saga_id


def test_a_pivot_in_the_child_makes_the_step_one(lab: Lab) -> None:
    """R16: a cancel while it is open is a note."""
    family = Family(lab, x={}, y={"pivot": True, "undo": False})
    assert family.parent.step("kid")["pivot"] is True
    kid = family.born()
    assert family.parent.cancel() == "noted"
    kid.do("x", "y")
    family.look()
    assert "CancelRefused" in family.parent.event_types()
    family.parent.do("after")
    assert family.parent.state == "COMPLETED"


def test_the_deadline_of_the_parent_reaches_the_child(lab: Lab) -> None:
    """Design 6.11: compensated, outcome COMPENSATED."""
    register(lab.engine, [build("kid_saga", x={}, y={})], Settings())
    parent = Saga("hurried", timeout=60)
    parent.child("kid", "kid_saga")
    register(lab.engine, [parent], Settings())
    run = lab.start("hurried")
    kid = Run(lab, SagaId(run.do("kid", outcome="child", output={}, error=None)["touched"]))
    kid.do("x")
    lab.advance(61)
    lab.reconcile()
    assert (run.state, kid.state) == ("COMPENSATING", "COMPENSATING")
    kid.undo("x")
    lab.store.hint(run.saga_id)
    assert (run.state, run.row()["error"]["type"]) == ("COMPENSATED", "DeadlineExceeded")


def test_a_grandchild(lab: Lab) -> None:
    """Cancel goes down, ends come up."""
    grand, middle, top = build("grand", g={}), Saga("middle"), Saga("top")
    middle.child("m", "grand")
    top.child("t", "middle")
    register(lab.engine, [grand, middle, top], Settings())
    a = lab.start("top")
    b = Run(lab, SagaId(a.do("t", outcome="child", output={}, error=None)["touched"]))
    c = Run(lab, SagaId(b.do("m", outcome="child", output={}, error=None)["touched"]))
    c.do("g")
    for run in (b, a):
        lab.store.hint(run.saga_id)
    assert [run.state for run in (a, b, c)] == ["COMPLETED"] * 3
    for run in (a, b, c):
        check(lab, run.saga_id)


def test_a_paused_parent_does_not_move_its_child_back(family: Family) -> None:
    """Pause: nothing new is begun, a child's undo neither; after it, it is."""
    kid = family.born()
    kid.do("x", "y")
    family.look()
    attempt = family.parent.claim("after")
    family.lab.store.pause(family.parent.saga_id, True, "hold", "p")
    family.parent.commit("after", attempt, "failed")
    assert kid.state == "COMPLETED"
    family.lab.store.pause(family.parent.saga_id, False, None, "p")
    assert kid.state == "COMPENSATING"
    family.check()


def test_undo_waits_until_it_is_quiet(family: Family) -> None:
    """R11: a node was silent, not proven dead: no undo before its longest lease has passed, a child's neither."""
    kid = family.born()
    kid.do("x", "y")
    family.look()
    attempt = family.parent.claim("after")
    family.lab.store.take_over(family.parent.saga_id, "after", attempt, "silent", early=True)
    family.parent.cancel()
    assert kid.state == "COMPLETED"
    family.lab.advance(LEASE + 1)
    family.lab.reconcile()
    family.check()
    assert {kid.state, family.parent.state} <= {"COMPENSATING", "COMPLETED"}
    for _ in range(3):
        if family.parent.step("after")["effect_possible"]:
            family.parent.undo("after")
        family.lab.advance(6)
        family.lab.reconcile()
        if kid.state == "COMPENSATING":
            break
    assert kid.state == "COMPENSATING"


@pytest.mark.parametrize("first", ["child ends", "parent goes back"])
def test_both_at_one_instant_do_not_deadlock(family: Family, first: str) -> None:
    """R10: locks are taken parent before child; both orders, on two connections at once."""
    kid = family.born()
    kid.do("x")
    attempt = kid.claim("y")
    acts: list[Callable[[], Any]] = [lambda: kid.commit("y", attempt), family.parent.cancel]
    if first == "parent goes back":
        acts.reverse()
    errors: list[BaseException] = []

    def run(act: Callable[[], Any]) -> None:
        try:
            act()
        except BaseException as error:  # noqa: BLE001 - shown by the assertion below
            errors.append(error)

    threads = [threading.Thread(target=run, args=(act,)) for act in acts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert errors == []
    for _ in range(6):
        family.lab.advance(5.1)
        family.lab.reconcile()
        if kid.state == "COMPENSATING":
            kid.undo(*(name for name in ("y", "x") if kid.step(name)["undo_rank"] is not None))
    family.parent.undo("before")
    assert (family.parent.state, kid.state) in {("CANCELLED", "CANCELLED"), ("CANCELLED", "COMPENSATED")}
    family.check()


def test_an_unknown_child_is_refused_at_once(lab: Lab) -> None:
    """P12: one clear line, when the definitions are written."""
    parent = Saga("lonely")
    parent.child("kid", "nobody")
    with pytest.raises(DefinitionError, match=r"step lonely\.kid: no saga 'nobody' is loaded here or defined"):
        register(lab.engine, [parent], Settings())


def test_a_child_has_its_own_undo_and_verify() -> None:
    """P12."""
    kid = Saga("p").child("kid", "other")
    with pytest.raises(DefinitionError, match="has a compensation of its own"):
        kid.compensation(nothing)
    with pytest.raises(DefinitionError, match="has a verify of its own"):
        kid.verify(nothing)
