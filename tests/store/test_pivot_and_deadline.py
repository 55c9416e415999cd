"""No way back: R16; and the deadline in each state."""

import pytest

from tests.store.lab import LEASE, PIVOT, Lab, Run


def pivotal(lab: Lab, timeout: float | None = None, **pivot: object) -> Run:
    """A saga of a, pivot p, and b; a is done."""
    run = lab.run(timeout, a={}, p={**PIVOT, **pivot}, b={})
    run.do("a")
    return run


def test_a_cancel_while_the_pivot_runs_is_a_note(lab: Lab) -> None:
    """R16 (trace): it commits, and a must not be undone."""
    run = pivotal(lab)
    attempt = run.claim("p")

    assert run.cancel() == "noted"
    assert run.commit("p", attempt)["next"] == "continue"
    assert run.row()["cancel_requested"] is None
    assert run.event_types().count("CancelRefused") == 1
    run.do("b")
    assert run.state == "COMPLETED"


def test_a_noted_cancel_is_decided_when_the_pivot_failed_cleanly(lab: Lab) -> None:
    """R16: a known outcome without an effect closes the pivot; then the note counts."""
    run = pivotal(lab)
    attempt = run.claim("p")
    run.cancel()
    run.commit("p", attempt, "failed", retry_in=1.0)

    assert run.state == "COMPENSATING"
    run.undo("a")
    assert run.state == "CANCELLED"


def test_a_pivot_of_unknown_outcome_stays_open(lab: Lab) -> None:
    """R16: an open pivot may still be claimed, and a cancel is still a note."""
    run = pivotal(lab)
    run.lose("p")

    assert run.row()["pivot_open"] is True
    assert run.cancel() == "noted"
    run.do("p", "b")
    assert run.state == "COMPLETED"


def test_a_pivot_used_up_by_loss_is_failed(lab: Lab) -> None:
    """R16: used up: FAILED, at the pivot; nothing is undone, what may be there is listed."""
    run = pivotal(lab, attempts=1)
    run.lose("p")

    assert (run.state, run.row()["failed_from"]) == ("FAILED", "forward")
    assert run.step("a")["state"] == "COMPLETED"
    assert "a" in [entry["step"] for entry in run.row()["outstanding"]]


def test_a_pivot_that_cannot_be_verified_is_failed(lab: Lab) -> None:
    """R16: not verifiable: FAILED, not undone."""
    run = pivotal(lab, idempotent=False)
    run.do("p", outcome="unknown")

    assert run.state == "FAILED"
    assert run.step("a")["state"] == "COMPLETED"


@pytest.mark.parametrize(
    ("answer", "state"), [("done", "COMPLETED"), ("not_done", "COMPENSATED"), ("failed", "FAILED")]
)
def test_a_pivot_is_verified(lab: Lab, answer: str, state: str) -> None:
    """R14, R16: done goes on, not done goes back, for ever unknown is FAILED."""
    run = pivotal(lab, idempotent=False, verify=True, attempts=1)
    run.lose("p")
    run.do("p", outcome=answer)
    if answer == "done":
        run.do("b")
    if answer == "not_done":
        run.undo("a")

    assert run.state == state


def test_a_pivot_that_failed_for_good_goes_back(lab: Lab) -> None:
    """R16: nothing happened, so there is still a way back."""
    run = pivotal(lab)
    run.do("p", outcome="failed")
    run.undo("a")

    assert run.state == "COMPENSATED"


def test_past_the_pivot_a_failure_is_failed(lab: Lab) -> None:
    """Section 5: IN_PROGRESS to FAILED only past a pivot."""
    run = pivotal(lab)
    run.do("p")
    run.do("b", outcome="failed")

    assert (run.state, run.row()["failed_from"]) == ("FAILED", "forward")
    assert run.verdict("a", undo=True) == "terminal"


def test_past_the_pivot_a_cancel_is_refused(lab: Lab) -> None:
    """R16: no way back."""
    run = pivotal(lab)
    run.do("p")
    before = run.dump()

    assert run.cancel() == "past_pivot"
    assert run.dump() == before


def test_a_cancel_before_the_pivot_s_first_claim_goes_back(lab: Lab) -> None:
    """R16: a pivot is open from its first claim, not before."""
    run = pivotal(lab)

    assert run.cancel() == "compensating"
    run.undo("a")
    assert run.state == "CANCELLED"


def test_not_ready_closes_a_pivot(lab: Lab) -> None:
    """R16: NotReady is a known outcome without an effect."""
    run = pivotal(lab)
    run.do("p", outcome="not_ready", retry_in=3.0)

    assert run.row()["pivot_open"] is False
    assert run.cancel() == "compensating"


# --- the deadline ------------------------------------------------------------------------------------------------


def test_a_deadline_in_pending_cancels(lab: Lab) -> None:
    """Edges: PENDING past its deadline is CANCELLED with that reason."""
    run = lab.run(60.0, a={})
    lab.advance(61)
    lab.reconcile()

    assert (run.state, run.row()["error"]["type"]) == ("CANCELLED", "DeadlineExceeded")
    assert run.states() == ["SKIPPED"]


def test_a_deadline_in_progress_compensates(lab: Lab) -> None:
    """Design 6.11: outcome COMPENSATED, error DeadlineExceeded."""
    run = lab.run(60.0, a={}, b={})
    run.do("a")
    lab.advance(61)
    lab.reconcile()
    run.undo("a")

    assert (run.state, run.row()["error"]["type"]) == ("COMPENSATED", "DeadlineExceeded")


def test_a_deadline_waits_for_a_live_claim(lab: Lab) -> None:
    """R10: going back begins at once, undoing does not."""
    run = lab.run(20.0, a={}, b={})
    run.do("a")
    attempt = run.claim("b")
    lab.advance(21)
    lab.reconcile()

    assert run.state == "COMPENSATING"
    assert run.verdict("a", undo=True) == "claimed"
    run.commit("b", attempt)
    run.undo("b", "a")
    assert run.state == "COMPENSATED"


def test_a_deadline_while_the_pivot_is_open_waits_for_it(lab: Lab) -> None:
    """R16: the pivot commits; then there is no way back, and the deadline makes it FAILED."""
    run = pivotal(lab, 20.0)
    attempt = run.claim("p")
    lab.advance(21)
    lab.reconcile()
    assert run.state == "IN_PROGRESS"

    run.commit("p", attempt)
    lab.reconcile()
    assert (run.state, run.row()["error"]["type"]) == ("FAILED", "DeadlineExceeded")


def test_a_deadline_noted_at_a_pivot_that_failed_cleanly_compensates(lab: Lab) -> None:
    """R16, design 6.11: it was the deadline, not a cancel: COMPENSATED."""
    run = pivotal(lab, 20.0)
    attempt = run.claim("p")
    lab.advance(21)
    lab.store.hint(run.saga_id)
    assert run.row()["cancel_requested"]["type"] == "DeadlineExceeded"
    run.commit("p", attempt, "failed", retry_in=1.0)
    run.undo("a")

    assert (run.state, run.row()["error"]["type"]) == ("COMPENSATED", "DeadlineExceeded")


def test_a_deadline_noted_at_a_pivot_that_verify_denies_compensates(lab: Lab) -> None:
    """The same where a verify closes the pivot."""
    run = pivotal(lab, 20.0, idempotent=False, verify=True)
    run.lose("p")
    lab.reconcile()
    run.do("p", outcome="not_done")
    run.undo("a")

    assert (run.state, run.row()["error"]["type"]) == ("COMPENSATED", "DeadlineExceeded")


def test_a_deadline_past_the_pivot_is_failed(lab: Lab) -> None:
    """Design 6.11."""
    run = pivotal(lab, 60.0)
    run.do("p")
    lab.advance(61)
    lab.reconcile()

    assert (run.state, run.row()["error"]["type"]) == ("FAILED", "DeadlineExceeded")
    assert run.states() == ["COMPLETED", "COMPLETED", "SKIPPED"]


def test_a_deadline_past_the_pivot_waits_for_a_live_claim(lab: Lab) -> None:
    """R10, the check that no saga ends while a claim is live: reconcile does not break on it."""
    run = pivotal(lab, 20.0)
    run.do("p")
    attempt = run.claim("b")
    lab.advance(21)
    lab.reconcile()
    assert run.state == "IN_PROGRESS"

    assert run.commit("b", attempt)["next"] == "end"
    assert run.state == "COMPLETED"


def test_a_deadline_past_the_pivot_counts_after_a_loss(lab: Lab) -> None:
    """P14: the claim is lost, then the deadline decides."""
    run = pivotal(lab, 20.0)
    run.do("p")
    run.claim("b")
    lab.advance(LEASE + 1)
    lab.reconcile()
    lab.advance(2)
    lab.reconcile()

    assert (run.state, run.row()["error"]["type"]) == ("FAILED", "DeadlineExceeded")


def test_a_saga_that_goes_back_has_no_deadline(lab: Lab) -> None:
    """P6: a rollback is not stopped by the clock."""
    run = lab.run(60.0, a={}, b={})
    run.do("a")
    run.cancel()
    lab.advance(1000)
    lab.reconcile()
    run.undo("a")

    assert run.state == "CANCELLED"
