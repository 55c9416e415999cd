"""An effect belongs to an attempt, and what counts as known: R1, R2 and promise P6 as the store shows them."""

import pytest

from tests.store.lab import ASKED, LEASE, ONCE, Lab


def test_a_lost_attempt_is_undone_although_the_last_one_failed(lab: Lab) -> None:
    """R1 (trace): a acts and is lost; attempt 2 raises for good; the saga must not end before a is undone."""
    run = lab.run(a={"attempts": 2})
    run.lose("a")
    answer = run.do("a", outcome="failed")

    assert (answer["next"], run.state) == ("undo", "COMPENSATING")
    run.undo("a")
    assert (run.state, run.states()) == ("COMPENSATED", ["COMPENSATED"])


def test_a_cancel_in_the_back_off_after_a_loss_undoes_it(lab: Lab) -> None:
    """R1 (trace): the same with a cancel that arrives between two attempts; the undo does not wait for the back-off."""
    run = lab.run(a={})
    run.commit("a", run.claim("a"), "unknown", retry_in=50.0)
    assert (run.step("a")["state"], run.step("a")["effect_possible"]) == ("PENDING", True)

    assert run.cancel() == "compensating"
    run.undo("a")
    assert run.state == "CANCELLED"


def test_a_deadline_in_the_back_off_after_a_loss_undoes_it(lab: Lab) -> None:
    """R1: the same with the deadline."""
    run = lab.run(timeout=60.0, a={})
    run.commit("a", run.claim("a"), "unknown", retry_in=55.0)
    lab.advance(61)
    lab.reconcile()

    assert run.state == "COMPENSATING"
    run.undo("a")
    assert run.state == "COMPENSATED"
    assert run.row()["error"]["type"] == "DeadlineExceeded"


def test_attempts_used_up_by_loss_end_unknown(lab: Lab) -> None:
    """R1: not FAILED, and undone."""
    run = lab.run(a={"attempts": 1}, b={})
    run.lose("a")

    assert run.step("a")["state"] == "UNKNOWN"
    assert run.state == "COMPENSATING"
    run.undo("a")
    assert run.state == "COMPENSATED"


def test_a_plain_failure_leaves_nothing_to_undo(lab: Lab) -> None:
    """R2: an idempotent step that raised is known not to be done."""
    run = lab.run(a={}, b={})
    run.do("a")
    run.do("b", outcome="failed")

    assert not run.step("b")["effect_possible"]
    assert run.verdict("b", undo=True) == "not_current"
    run.undo("a")
    assert run.states() == ["COMPENSATED", "FAILED"]


def test_a_raise_under_compensate_on_failure_is_undone(lab: Lab) -> None:
    """P6, R1: a half-made worker is destroyed too, before what was completed (R18)."""
    run = lab.run(a={}, b={"compensate_on_failure": True})
    run.do("a")
    run.do("b", outcome="failed")

    assert run.verdict("a", undo=True) == "not_current"
    run.undo("b", "a")
    assert run.states() == ["COMPENSATED", "COMPENSATED"]


def test_not_ready_under_compensate_on_failure_is_a_raise_too(lab: Lab) -> None:
    """R1 "every raise of a compensate_on_failure step": made, not up yet, cancelled meanwhile: destroyed."""
    run = lab.run(a={"compensate_on_failure": True}, b={})
    run.do("a", outcome="not_ready", retry_in=5.0)
    run.cancel()

    assert run.state == "COMPENSATING"
    run.undo("a")
    assert run.state == "CANCELLED"


def test_a_time_limit_of_an_idempotent_step_is_retried_with_its_effect_on_record(lab: Lab) -> None:
    """R2, L21: a time limit is an unknown outcome that moves the saga."""
    run = lab.run(a={}, b={})
    run.do("a", outcome="unknown", retry_in=0.5)
    assert (run.step("a")["state"], run.step("a")["effect_possible"]) == ("PENDING", True)

    lab.advance(1)
    run.do("a")
    run.do("b", outcome="failed")
    run.undo("a")
    assert run.state == "COMPENSATED"


def test_a_non_idempotent_step_of_unknown_outcome_is_not_begun_again(lab: Lab) -> None:
    """R2 (trace), P4: the charge goes through and the client library raises: one charge, then the undo."""
    run = lab.run(a=ONCE, b={})
    answer = run.do("a", outcome="unknown")

    assert answer["next"] == "undo"
    assert run.step("a")["state"] == "UNKNOWN"
    assert run.verdict("a") == "wrong_direction"
    run.undo("a")
    assert (run.state, run.step("a")["attempt"]) == ("COMPENSATED", 1)


def test_a_lost_non_idempotent_step_is_asked_not_repeated(lab: Lab) -> None:
    """P4, P7: at most once; its verify decides."""
    run = lab.run(a=ASKED, b={})
    run.lose("a")

    answer = run.ask("a")
    assert (answer["verdict"], answer["phase"]) == ("granted", "verify")
    assert run.step("a")["attempt"] == 1


def test_a_non_idempotent_step_that_failed_by_its_author_s_word_is_retried(lab: Lab) -> None:
    """R2: `failed` (retry_on, PermanentError) says that nothing happened."""
    run = lab.run(a=ONCE)
    run.do("a", outcome="failed", retry_in=1.0)

    assert (run.step("a")["state"], run.step("a")["effect_possible"]) == ("PENDING", False)
    lab.advance(1.1)
    assert run.ask("a")["phase"] == "forward"


def test_an_output_that_cannot_be_stored_is_undone(lab: Lab) -> None:
    """Design 6.11: the effect exists, so the step fails for good and is compensated."""
    run = lab.run(a={})
    run.do("a", outcome="bad_output")

    assert run.step("a")["state"] == "FAILED"
    run.undo("a")
    assert run.state == "COMPENSATED"


@pytest.mark.parametrize("end", ["failed", "unknown"])
def test_attempts_are_counted_in_all(lab: Lab, end: str) -> None:
    """L74: max_attempts=3 gives three attempts, no more and no fewer."""
    run = lab.run(a={"attempts": 3})
    attempts = 0
    while run.state in ("PENDING", "IN_PROGRESS"):
        run.do("a", outcome=end, retry_in=0.0)
        attempts += 1

    assert attempts == 3


def test_not_ready_spends_no_attempt_until_its_time_is_up(lab: Lab) -> None:
    """Edges: a NotReady has a time-out, always."""
    run = lab.run(a={})
    for _ in range(4):
        assert run.do("a", outcome="not_ready", retry_in=5.0)["next"] == "wait"
        assert run.step("a")["attempt"] == 0
        lab.advance(5)
    run.do("a", outcome="not_ready", retry_in=5.0)

    assert run.step("a")["state"] == "FAILED"
    assert run.state == "COMPENSATED"


def test_a_step_without_an_undo_does_not_break_the_rollback(lab: Lab) -> None:
    """L72: steps with and without an undo."""
    run = lab.run(a={}, b={"undo": False}, c={}, d={"undo": False}, e={})
    run.do("a", "b", "c", "d")
    run.do("e", outcome="failed")
    run.undo("c", "a")

    assert run.states() == ["COMPENSATED", "COMPLETED", "COMPENSATED", "COMPLETED", "FAILED"]
    assert run.state == "COMPENSATED"


def test_the_failed_step_s_error_is_readable_afterwards(lab: Lab) -> None:
    """L23: no trace of a failure is rolled back with it."""
    run = lab.run(a={}, b={})
    run.do("a")
    run.commit("b", run.claim("b"), "failed", error={"type": "ValueError", "message": "no such card"})
    run.undo("a")

    assert run.step("b")["error"] == {"type": "ValueError", "message": "no such card"}
    assert run.row()["error"] == {"type": "ValueError", "message": "no such card", "step": "b"}


def test_a_running_step_is_counted_when_the_saga_turns_round(lab: Lab) -> None:
    """R10: a live claim's commit in COMPENSATING is accepted, and answered with "start undoing"."""
    run = lab.run(a={}, b={})
    run.do("a")
    attempt = run.claim("b")
    assert run.cancel() == "compensating"
    assert run.verdict("a", undo=True) == "claimed"

    answer = run.commit("b", attempt, output={"made": 1})
    assert (answer["verdict"], answer["next"]) == ("committed", "undo")
    assert [hop["step"] for hop in answer["route"]] == ["b", "a"]
    run.undo("b", "a")
    assert run.state == "CANCELLED"


def test_a_running_step_that_is_lost_after_the_turn_is_undone(lab: Lab) -> None:
    """R10, R1: the same when it never reports."""
    run = lab.run(a={}, b={})
    run.do("a")
    run.claim("b")
    run.cancel()
    lab.advance(LEASE + 1)
    lab.reconcile()

    assert run.verdict("a", undo=True) == "not_current"
    run.undo("b", "a")
    assert run.state == "CANCELLED"
