"""What a person does to a FAILED or a running saga: R17, and R23 for what nobody claims."""

import uuid

from tests.store.lab import ASKED, LEASE, PIVOT, Lab, Run


def mend(run: Run, verb: str, step: str, **said: object) -> str:
    attempt = run.step(step)["attempt_id"]
    answer = run.lab.store.mend(run.saga_id, verb, step, attempt, reason="seen", actor="ana", **said)
    return str(answer["verdict"])


def stuck_undo(lab: Lab) -> Run:
    """The undo of b has failed for good; a is still to be undone."""
    run = lab.run(a={}, b={}, c={})
    run.do("a", "b")
    run.do("c", outcome="failed")
    run.undo("b", outcome="failed")
    assert (run.state, run.row()["failed_from"]) == ("FAILED", "undo")
    return run


def test_a_retry_goes_on_in_the_direction_of_the_failure(lab: Lab) -> None:
    """R17 (trace): a step whose undo failed is not read as failed forward."""
    run = stuck_undo(lab)

    assert mend(run, "retry", "b") == "mended"
    assert run.state == "COMPENSATING"
    run.undo("b", "a")
    assert (run.state, run.states()) == ("COMPENSATED", ["COMPENSATED", "COMPENSATED", "FAILED"])


def test_a_verb_that_is_said_twice_acts_once(lab: Lab) -> None:
    """R17: it names the attempt; when the retry has failed, too, the old word does nothing."""
    run = stuck_undo(lab)
    attempt = run.step("b")["attempt_id"]
    said = (run.saga_id, "retry", "b", attempt)

    assert lab.store.mend(*said)["verdict"] == "mended"
    assert lab.store.mend(*said)["verdict"] == "not_failed"
    run.undo("b", outcome="failed")
    assert lab.store.mend(*said)["verdict"] == "not_this_attempt"
    assert run.event_types().count("SagaMended") == 1


def test_skip_leaves_the_effect_listed_and_goes_on(lab: Lab) -> None:
    """R18: order matters, so an undo that failed stops; `skip` goes on, and what is left stays in sight."""
    run = stuck_undo(lab)

    assert mend(run, "skip", "b") == "mended"
    run.undo("a")
    assert (run.state, [one["step"] for one in run.row()["outstanding"]]) == ("COMPENSATED", ["b"])


def test_an_unknown_charge_is_not_retried_without_a_word(lab: Lab) -> None:
    """R17: retry of a non-idempotent unknown step is refused without force or skip."""
    run = lab.run(a={}, p={**ASKED, "pivot": True, "undo": False, "attempts": 1}, b={})
    run.do("a")
    run.lose("p")
    run.do("p", outcome="failed")
    assert run.state == "FAILED"

    assert mend(run, "retry", "p") == "needs_force_or_skip"
    assert mend(run, "force", "p", output={"charge": 1}) == "mended"
    run.do("b")
    assert (run.state, run.step("p")["output_data"]) == ("COMPLETED", {"charge": 1})


def test_a_skipped_pivot_is_none(lab: Lab) -> None:
    """R17: skip says that it did not happen: there is still a way back."""
    run = lab.run(a={}, p={**PIVOT, "attempts": 1}, b={})
    run.do("a")
    run.lose("p")
    assert run.state == "FAILED"

    assert mend(run, "skip", "p") == "mended"
    run.do("b", outcome="failed")
    run.undo("a")
    assert run.state == "COMPENSATED"


def test_a_deadline_past_the_pivot_can_be_mended(lab: Lab) -> None:
    """R17: the step at which it stopped may never have begun, and has no attempt to name."""
    run = lab.run(60, a={}, p=PIVOT, b={})
    run.do("a", "p")
    lab.advance(61)
    lab.reconcile()
    assert (run.state, run.step("b")["attempt_id"]) == ("FAILED", None)

    assert lab.repository.failed_step(run.saga_id) == ("b", None)
    assert mend(run, "retry", "b") == "mended"
    run.do("b")
    assert run.state == "COMPLETED"


def test_a_paused_saga_begins_nothing_and_keeps_what_ran(lab: Lab) -> None:
    run = lab.run(a={}, b={})
    attempt = run.claim("a")
    assert lab.store.pause(run.saga_id, True, "wait", "ana")["verdict"] == "paused"
    assert run.commit("a", attempt)["verdict"] == "committed"
    assert run.verdict("b") == "paused"
    lab.advance(3600)
    assert lab.reconcile() == []

    found = lab.store.pause(run.saga_id, False, None, "ana")
    assert (found["verdict"], found["publish"]["route"][0]["step"]) == ("resumed", "b")
    run.do("b")
    assert run.state == "COMPLETED"


def test_a_claim_that_dies_while_its_saga_is_paused_is_taken_over(lab: Lab) -> None:
    run = lab.run(a={}, b={})
    lost = run.claim("a")
    lab.store.pause(run.saga_id, True, None, "ana")
    lab.advance(LEASE + 1)
    lab.reconcile()

    assert run.step("a")["attempt_id"] != lost
    assert run.row()["live_claims"] == 0


def test_what_nobody_claims_is_parked_with_the_reason(lab: Lab) -> None:
    """R23: after so many messages without a claim; a claim in between counts anew."""
    run = lab.run(a={})
    lab.reconcile()
    assert [lab.store.lost(run.saga_id, 2) for _ in range(3)] == [True, True, False]
    assert "is it registered" in run.row()["pause_reason"]
    assert run.event_types()[-1] == "SagaParked"
    assert lab.store.pause(run.saga_id, False, None, "ana")["verdict"] == "resumed"
    run.do("a")
    assert run.state == "COMPLETED"


def test_one_broken_saga_does_not_hold_up_the_others(lab: Lab) -> None:
    """R21: what cannot be looked at is told of, and looked at again later; the rest moves."""
    broken, sound = lab.run(a={}), lab.run(a={})
    lab.sql(
        "ALTER TABLE saga_steps ADD CONSTRAINT broken CHECK (saga_id <> %s OR published_at IS NULL) NOT VALID",
        str(broken.saga_id),
    )

    found = {one["saga_id"]: one for one in lab.reconcile()}
    assert "broken" in found[str(broken.saga_id)]["trouble"]
    assert found[str(sound.saga_id)]["route"][0]["step"] == "a"
    assert (broken.row()["wake_at"] - lab.now()).total_seconds() == 30


def test_a_cancel_right_after_a_crash_sees_the_vanished_claim(lab: Lab) -> None:
    """R13: before the first reconcile, too."""
    run = lab.run(a={}, b={})
    lab.sql("DELETE FROM engine_epoch")

    assert run.cancel() == "compensating"
    assert run.step("a")["effect_possible"] is True


def test_a_payload_that_does_not_fit_is_refused_before_any_step(lab: Lab) -> None:
    """Nothing was called, so nothing is undone, not even of a step that is undone after every failure."""
    run = lab.run(a={"compensate_on_failure": True})
    run.do("a", outcome="refused")
    assert (run.state, run.event_types()[-1]) == ("CANCELLED", "SagaCancelled")


def test_a_late_output_that_cannot_be_stored_is_an_effect(lab: Lab) -> None:
    """R19."""
    run = lab.run(a={}, b={})
    lost = run.lose("a")
    run.do("a")
    run.commit("a", lost, "bad_output")
    assert run.event_types().count("LateEffect") == 1


def test_an_early_takeover_makes_the_rest_wait(lab: Lab) -> None:
    """R11: the step may begin again at once; its undo waits until the first attempt's lease is over."""
    run = lab.run(a={}, b={})
    hung = run.claim("a")
    assert lab.store.take_over(run.saga_id, "a", hung, "its node is silent", early=True) == "again"
    run.do("a")
    run.do("b", outcome="failed")
    assert run.verdict("a", undo=True) == "quiet"
    lab.advance(LEASE)
    run.undo("a")
    assert run.state == "COMPENSATED"


def test_only_idempotent_forward_steps_are_taken_over_early(lab: Lab) -> None:
    """R11: a hung charge may still land."""
    run = lab.run(a={"idempotent": False})
    hung = run.claim("a")
    assert lab.store.take_over(run.saga_id, "a", hung, "silent", early=True) == "gone"
    assert run.step("a")["attempt_id"] == hung


def test_a_renewed_claim_outlives_its_lease(lab: Lab) -> None:
    """L69: where no limit can end the step."""
    run = lab.run(a={})
    attempt = run.claim("a")
    lab.advance(LEASE - 1)
    assert lab.store.renew(run.saga_id, "a", attempt, LEASE)
    lab.advance(LEASE - 1)
    lab.reconcile()
    assert run.commit("a", attempt)["verdict"] == "committed"
    assert not lab.store.renew(run.saga_id, "a", uuid.uuid4(), LEASE)
