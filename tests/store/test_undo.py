"""Undoing: R18 and promise P6."""

from tests.store.lab import LEASE, ONCE, Lab, Run


def going_back(lab: Lab) -> Run:
    """a and b are done, c failed for good."""
    run = lab.run(a={}, b={}, c={})
    run.do("a", output={"n": 1})
    run.do("b", output={"n": 2})
    run.do("c", outcome="failed")
    return run


def test_in_reverse_order_of_completion(lab: Lab) -> None:
    """P6."""
    run = going_back(lab)
    answer = run.undo("b")
    assert answer["next"] == "undo"
    run.undo("a")

    assert (run.state, run.states()) == ("COMPENSATED", ["COMPENSATED", "COMPENSATED", "FAILED"])
    undone = [event["step_name"] for event in run.events() if event["event_type"] == "StepCompensated"]
    assert undone == ["b", "a"]


def test_an_undo_is_given_its_step_s_output(lab: Lab) -> None:
    """L26: and those of the others."""
    run = going_back(lab)
    answer = run.ask("b", undo=True)

    assert (answer["phase"], answer["output"]) == ("undo", {"n": 2})
    assert answer["outputs"] == {"a": {"n": 1}, "b": {"n": 2}}


def test_a_failed_undo_is_tried_again_by_its_own_policy(lab: Lab) -> None:
    """P6, L55: two attempts here, with a pause."""
    run = going_back(lab)
    assert run.undo("b", outcome="failed", retry_in=10.0)["next"] == "wait"

    assert run.step("b")["state"] == "COMPENSATING"
    assert run.verdict("b", undo=True) == "not_due"
    assert run.verdict("a", undo=True) == "not_current"
    lab.advance(11)
    run.undo("b", "a")
    assert run.state == "COMPENSATED"


def test_when_an_undo_gives_up_all_that_is_left_is_listed(lab: Lab) -> None:
    """P6, R18, L54: FAILED, in order of what would have been undone; it waits for a person."""
    run = going_back(lab)
    run.undo("b", outcome="failed", retry_in=1.0)
    lab.advance(2)
    run.undo("b", outcome="failed", retry_in=1.0)

    row = run.row()
    assert (row["state"], row["failed_from"], row["wake_at"]) == ("FAILED", "undo", None)
    assert [(entry["step"], entry["output"]) for entry in row["outstanding"]] == [("b", {"n": 2}), ("a", {"n": 1})]
    assert row["error"]["step"] == "b"
    assert run.verdict("a", undo=True) == "terminal"


def test_a_permanent_error_in_an_undo_stops_at_once(lab: Lab) -> None:
    """P6: no retry_in, no further attempt."""
    run = going_back(lab)
    run.undo("b", outcome="failed")

    assert (run.state, run.step("b")["undo_attempt"]) == ("FAILED", 1)


def test_a_lost_undo_is_run_again(lab: Lab) -> None:
    """R18, L12: compensations are safe to be called twice."""
    run = going_back(lab)
    run.lose("b", undo=True)

    assert (run.state, run.row()["live_claims"]) == ("COMPENSATING", 0)
    assert run.ask("b", undo=True)["attempt"] == 2


def test_an_undo_lost_too_often_is_failed(lab: Lab) -> None:
    """R18: its attempts run out by loss, too."""
    run = going_back(lab)
    run.lose("b", undo=True)
    run.lose("b", undo=True)

    assert run.state == "FAILED"
    assert [entry["step"] for entry in run.row()["outstanding"]] == ["b", "a"]


def test_unknown_ones_come_before_all_completed_ones(lab: Lab) -> None:
    """R18."""
    run = lab.run(a={}, b=ONCE)
    run.do("a")
    run.lose("b")

    assert run.verdict("a", undo=True) == "not_current"
    run.undo("b", "a")
    assert run.state == "COMPENSATED"


def test_an_undo_that_is_not_ready_spends_no_attempt(lab: Lab) -> None:
    """Edges: until its time is up; then it counts as failed."""
    run = going_back(lab)
    for _ in range(3):
        run.undo("b", outcome="not_ready", retry_in=5.0)
        assert (run.step("b")["state"], run.step("b")["undo_attempt"]) == ("COMPENSATING", 0)
        lab.advance(5)
    run.undo("b", "a")

    assert run.state == "COMPENSATED"


def test_an_undo_that_is_never_ready_ends_failed(lab: Lab) -> None:
    """Edges: a NotReady has a time-out, always."""
    run = going_back(lab)
    for _ in range(10):
        if run.state == "FAILED":
            break
        run.undo("b", outcome="not_ready", retry_in=15.0)
        lab.advance(15)

    assert run.state == "FAILED"


def test_nothing_to_undo_ends_at_once(lab: Lab) -> None:
    """P1: no compensation message is needed."""
    run = lab.run(a={}, b={})
    answer = run.do("a", outcome="failed")

    assert (answer["next"], run.state) == ("end", "COMPENSATED")
    assert run.states() == ["FAILED", "SKIPPED"]


def test_a_saga_that_goes_back_is_found_although_nobody_was_told(lab: Lab) -> None:
    """P2, L12, L68: link_error is lost; reconcile says what is to be published."""
    run = going_back(lab)
    lab.advance(2.5)
    (found,) = lab.reconcile()

    assert (found["saga_id"], found["undo"], found["known"]) == (str(run.saga_id), True, True)
    assert [hop["step"] for hop in found["route"]] == ["b", "a"]
    assert found["queue"] == "compensations"


def test_a_cancel_of_one_that_goes_back_changes_nothing(lab: Lab) -> None:
    """P10: cancel after the failure."""
    run = going_back(lab)
    before = run.dump()

    assert run.cancel() == "compensating"
    assert run.dump() == before
    run.undo("b", "a")
    assert run.state == "COMPENSATED"


def test_a_lost_undo_keeps_the_lease_s_order(lab: Lab) -> None:
    """P5: while one undo is live nothing else of the saga is begun, also not by the clock."""
    run = going_back(lab)
    run.claim("b", undo=True)
    lab.advance(LEASE + 1)

    assert run.verdict("b", undo=True) == "claimed"
    assert run.verdict("a", undo=True) == "claimed"
