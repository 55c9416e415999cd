"""What is asked when the outcome is unknown: R14, P7."""

from tests.store.lab import ASKED, LEASE, Lab, Run


def unknown(lab: Lab, **options: object) -> Run:
    run = lab.run(a={}, p={**ASKED, **options}, b={})
    run.do("a")
    run.lose("p")
    assert run.step("p")["state"] == "UNKNOWN"
    return run


def test_a_dict_means_done(lab: Lab) -> None:
    run = unknown(lab)
    assert run.do("p", output={"charge": 3})["next"] == "continue"

    assert run.step("p")["output_data"] == {"charge": 3}
    run.do("b")
    assert run.state == "COMPLETED"


def test_an_empty_dict_means_done_too(lab: Lab) -> None:
    run = unknown(lab)
    run.do("p", output={})

    assert (run.step("p")["state"], run.step("p")["output_data"]) == ("COMPLETED", {})


def test_none_means_not_done_and_the_step_is_tried_again(lab: Lab) -> None:
    """R14, R1: the effect is cleared, attempts are left."""
    run = unknown(lab)
    run.do("p", outcome="not_done", retry_in=1.0)

    step = run.step("p")
    assert (step["state"], step["effect_possible"], step["undo_rank"]) == ("PENDING", False, None)
    assert run.verdict("p") == "not_due"
    lab.advance(1.5)
    assert (run.ask("p")["attempt"], run.step("p")["state"]) == (2, "IN_PROGRESS")


def test_none_with_the_attempts_used_up_is_failed_and_not_undone(lab: Lab) -> None:
    """Edges: UNKNOWN to FAILED; verify said that there is nothing to undo."""
    run = unknown(lab, attempts=1)
    run.do("p", outcome="not_done")

    assert run.step("p")["state"] == "FAILED"
    assert run.verdict("p", undo=True) == "not_current"
    run.undo("a")
    assert run.state == "COMPENSATED"


def test_a_raise_is_still_unknown_and_asked_again(lab: Lab) -> None:
    """R14: by the policy, then back, compensated."""
    run = unknown(lab, attempts=2)
    assert run.do("p", outcome="failed", retry_in=30.0)["next"] == "wait"
    assert (run.step("p")["state"], run.verdict("p")) == ("UNKNOWN", "not_due")
    lab.advance(31)

    assert run.do("p", outcome="failed", retry_in=30.0)["next"] == "undo"
    assert run.state == "COMPENSATING"
    run.undo("p", "a")
    assert run.state == "COMPENSATED"


def test_a_lost_verify_is_asked_again_and_counted(lab: Lab) -> None:
    """R14: an asker is a claim with a lease."""
    run = unknown(lab, attempts=2)
    run.lose("p")
    assert (run.step("p")["state"], run.row()["live_claims"]) == ("UNKNOWN", 0)
    run.lose("p")

    assert run.state == "COMPENSATING"


def test_only_one_asks(lab: Lab) -> None:
    """R14 (trace): two askers."""
    run = unknown(lab)
    run.claim("p")

    assert run.verdict("p") == "claimed"
    assert run.row()["live_claims"] == 1


def test_the_old_asker_does_not_clear_the_new_attempt(lab: Lab) -> None:
    """R14 (trace): two read "not done"; the first leads to attempt 2, which acts and is lost; the second is late."""
    run = unknown(lab)
    first = run.lose("p")
    run.do("p", outcome="not_done")
    run.lose("p")
    assert (run.step("p")["state"], run.step("p")["attempt"]) == ("UNKNOWN", 2)

    assert run.commit("p", first, "not_done")["verdict"] == "late"
    assert (run.step("p")["state"], run.step("p")["effect_possible"]) == ("UNKNOWN", True)


def test_a_cancel_while_somebody_asks_waits_for_the_answer(lab: Lab) -> None:
    """R10, R14: an asker counts as live; "done" is then undone."""
    run = unknown(lab)
    asker = run.claim("p")
    run.cancel()
    assert run.verdict("p", undo=True) == "claimed"

    run.commit("p", asker, output={"charge": 3})
    run.undo("p", "a")
    assert run.state == "CANCELLED"


def test_a_cancel_while_somebody_asks_and_not_done(lab: Lab) -> None:
    """R14: "not done" leaves nothing to undo."""
    run = unknown(lab)
    asker = run.claim("p")
    run.cancel()
    run.commit("p", asker, "not_done")

    assert run.verdict("p", undo=True) == "not_current"
    run.undo("a")
    assert run.state == "CANCELLED"


def test_a_cancel_before_anybody_asks_undoes_the_unknown(lab: Lab) -> None:
    """R18: unknown ones first."""
    run = unknown(lab)
    run.cancel()

    assert run.verdict("p") == "wrong_direction"
    assert run.verdict("a", undo=True) == "not_current"
    run.undo("p", "a")
    assert run.state == "CANCELLED"


def test_each_round_has_its_own_questions(lab: Lab) -> None:
    """R14: the count of questions begins anew with the next attempt."""
    run = unknown(lab, attempts=3)
    run.do("p", outcome="failed", retry_in=0.0)
    run.do("p", outcome="failed", retry_in=0.0)
    run.do("p", outcome="not_done", retry_in=0.0)
    run.lose("p")

    assert run.ask("p")["attempt"] == 1


def test_a_verify_has_its_lease(lab: Lab) -> None:
    """R14."""
    run = unknown(lab)
    run.claim("p")

    assert (run.step("p")["lease_until"] - lab.now()).total_seconds() == LEASE
