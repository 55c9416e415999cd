"""A late report of an attempt that was taken for lost: R19, P7."""

import uuid

import pytest

from tests.store.lab import ASKED, LEASE, ONCE, Lab, Run


def late_events(run: Run) -> list[dict]:
    return [event["payload"] for event in run.events() if event["event_type"] == "LateEffect"]


def test_the_winner_s_own_id_is_already_recorded(lab: Lab) -> None:
    """R19: the winner again."""
    run = lab.run(a={}, b={})
    attempt = run.claim("a")
    run.commit("a", attempt)

    assert run.commit("a", attempt)["verdict"] == "recorded"
    assert late_events(run) == []


def test_unknown_and_this_very_attempt_is_the_answer(lab: Lab) -> None:
    """R19: the step is UNKNOWN and this is that attempt: COMPLETED with its output."""
    run = lab.run(a=ASKED, b={})
    old = run.lose("a")

    answer = run.commit("a", old, output={"charge": 7})

    assert (answer["verdict"], answer["next"]) == ("committed", "continue")
    assert run.step("a")["output_data"] == {"charge": 7}
    assert (run.states(), run.row()["live_claims"]) == (["COMPLETED", "PENDING"], 0)
    assert [hop["step"] for hop in answer["route"]] == ["b"]


def test_unknown_and_this_very_attempt_while_its_verify_runs(lab: Lab) -> None:
    """R19: the report comes while somebody asks; the asker's answer counts no more."""
    run = lab.run(a=ASKED, b={})
    old = run.lose("a")
    asker = run.claim("a")

    assert run.commit("a", old, output={"charge": 7})["verdict"] == "committed"
    assert run.row()["live_claims"] == 0
    assert run.commit("a", asker, "not_done")["verdict"] in ("recorded", "late")
    assert (run.states(), run.row()["outstanding"]) == (["COMPLETED", "PENDING"], [])
    run.do("b")
    assert run.state == "COMPLETED"


def test_unknown_and_this_very_attempt_after_its_verify_was_lost(lab: Lab) -> None:
    """R19: a verify that vanished does not make the attempt forgotten."""
    run = lab.run(a=ASKED, b={})
    old = run.lose("a")
    run.lose("a")
    assert run.step("a")["state"] == "UNKNOWN"

    assert run.commit("a", old, output={"charge": 7})["verdict"] == "committed"
    assert run.states() == ["COMPLETED", "PENDING"]


def test_idempotent_and_forward_is_written_down(lab: Lab) -> None:
    """R19: event and effect_possible; nothing moves."""
    run = lab.run(a={}, b={})
    old = run.lose("a")
    run.lose("a")
    lab.sql("UPDATE saga_steps SET effect_possible = false, undo_rank = NULL")

    assert run.commit("a", old, output={"n": 1}) == {"verdict": "late", "next": "wait"}
    assert run.step("a")["effect_possible"] is True
    assert run.states() == ["PENDING", "PENDING"]
    (event,) = late_events(run)
    assert (event["step"], event["attempt_id"], event["output"]) == ("a", str(old), {"n": 1})


def test_twice_the_same_late_report_is_one_event(lab: Lab) -> None:
    """P10: repeated until acknowledged, written once."""
    run = lab.run(a={}, b={})
    old = run.lose("a")
    run.commit("a", old)
    run.commit("a", old)

    assert len(late_events(run)) == 1


@pytest.mark.parametrize("outcome", ["failed", "unknown", "not_ready", "cancel"])
def test_a_late_failure_moves_nothing(lab: Lab, outcome: str) -> None:
    """P3: late and without an effect."""
    run = lab.run(a={}, b={})
    old = run.lose("a")
    before = run.dump()

    assert run.commit("a", old, outcome)["verdict"] == "late"
    assert run.dump() == before


def test_going_back_the_undo_is_armed_with_the_late_output(lab: Lab) -> None:
    """R19: the saga compensates and this step's undo was not run yet."""
    run = lab.run(a={"attempts": 1}, b={})
    old = run.lose("a")
    assert run.state == "COMPENSATING"

    run.commit("a", old, output={"id": 9})
    assert run.ask("a", undo=True)["output"] == {"id": 9}


def test_going_back_a_done_undo_is_armed_again(lab: Lab) -> None:
    """R19, P7: COMPENSATED, then the effect comes: compensated once more."""
    run = lab.run(a={}, b={"attempts": 1})
    run.do("a")
    old = run.lose("b")
    run.undo("b")
    assert run.states() == ["COMPLETED", "COMPENSATED"]

    run.commit("b", old, output={"id": 9})
    assert run.step("b")["state"] == "COMPENSATING"
    assert run.verdict("a", undo=True) == "not_current"
    run.undo("b", "a")
    assert (run.state, run.row()["outstanding"]) == ("COMPENSATED", [])


def test_going_back_a_running_undo_is_run_once_more(lab: Lab) -> None:
    """R19: the undo that runs may have come before the effect."""
    run = lab.run(a={"attempts": 1}, b={})
    old = run.lose("a")
    undo = run.claim("a", undo=True)
    run.commit("a", old, output={"id": 9})

    run.commit("a", undo)
    assert (run.state, run.step("a")["state"]) == ("COMPENSATING", "COMPENSATING")
    run.undo("a")
    assert run.state == "COMPENSATED"


@pytest.mark.parametrize("end", ["COMPLETED", "COMPENSATED", "CANCELLED", "FAILED"])
def test_at_its_end_it_is_outstanding(lab: Lab, end: str) -> None:
    """R19, P9: an entry with its output, an event; the state stays."""
    run, old = ended_with_a_lost_attempt(lab, end)

    assert run.commit("a", old, output={"id": 9})["verdict"] == "late"
    assert run.state == end
    entry = run.row()["outstanding"][-1]
    assert (entry["step"], entry["output"], entry["attempt_id"]) == ("a", {"id": 9}, str(old))
    assert len(late_events(run)) == 1


def ended_with_a_lost_attempt(lab: Lab, end: str) -> tuple[Run, uuid.UUID]:
    run = lab.run(a={}, b={})
    old = run.lose("a")
    if end == "COMPLETED":
        run.do("a", "b")
    elif end == "CANCELLED":
        run.cancel()
        run.undo("a")
    else:
        run.do("a", outcome="failed")
        run.undo("a", outcome="done" if end == "COMPENSATED" else "failed")
    assert run.state == end
    return run, old


def test_a_non_idempotent_step_with_a_newer_attempt_is_outstanding(lab: Lab) -> None:
    """R19: verify said "not done", attempt 2 runs, attempt 1 reports: for a person."""
    run = lab.run(a=ASKED, b={})
    old = run.lose("a")
    run.do("a", outcome="not_done")
    new = run.claim("a")

    run.commit("a", old, output={"charge": 1})
    run.commit("a", new, output={"charge": 2})
    run.do("b")
    assert run.state == "COMPLETED"
    assert [entry["output"] for entry in run.row()["outstanding"]] == [{"charge": 1}]


def test_what_has_no_undo_stays_listed(lab: Lab) -> None:
    """P7: what cannot be undone stays listed as outstanding."""
    run = lab.run(a={}, b={**ONCE, "undo": False})
    run.do("a")
    old = run.lose("b")
    assert run.state == "COMPENSATING"

    run.commit("b", old, output={"id": 9})
    run.undo("a")
    assert run.state == "COMPENSATED"
    assert [entry["step"] for entry in run.row()["outstanding"]] == ["b"]


def test_a_late_undo_is_no_effect(lab: Lab) -> None:
    """R19, R18: an undo that was taken for lost reports; that arms nothing and lists nothing."""
    run = lab.run(a={}, b={})
    run.do("a", output={"id": 1})
    run.do("b", outcome="failed")
    old = run.lose("a", undo=True)
    new = run.claim("a", undo=True)

    assert run.commit("a", old)["verdict"] == "late"
    assert run.step("a")["output_data"] == {"id": 1}
    assert run.commit("a", new)["next"] == "end"
    assert run.state == "COMPENSATED"
    assert late_events(run) == []


def test_a_late_undo_after_the_end_lists_nothing(lab: Lab) -> None:
    """R19: nothing is outstanding because an undo was done twice."""
    run = lab.run(a={}, b={})
    run.do("a")
    run.do("b", outcome="failed")
    old = run.lose("a", undo=True)
    run.undo("a")
    assert run.state == "COMPENSATED"
    before = run.dump()

    run.commit("a", old)
    assert run.dump() == before


def test_a_late_answer_of_a_verify_is_refused(lab: Lab) -> None:
    """R14: its answer is refused unless its id is current."""
    run = lab.run(a=ASKED, b={})
    run.lose("a")
    asker = run.lose("a")

    assert run.commit("a", asker, output={"found": 1})["verdict"] == "late"
    assert (run.step("a")["state"], run.row()["outstanding"]) == ("UNKNOWN", [])
    assert late_events(run) == []


def test_a_report_of_an_attempt_that_nobody_knows_is_an_effect(lab: Lab) -> None:
    """R13, R19: its claim vanished in a crash of PostgreSQL; its effect is there."""
    run = lab.run(a={}, b={})
    attempt = run.claim("a")
    lab.sql(
        "UPDATE saga_steps SET state = 'PENDING', attempt = 0, attempt_id = NULL, lease_until = NULL"
        " WHERE step_name = 'a'"
    )
    lab.sql("UPDATE saga_instances SET live_claims = 0, state = 'PENDING'")

    assert run.commit("a", attempt, output={"n": 1})["verdict"] == "late"
    assert run.step("a")["effect_possible"] is True
    run.cancel()
    assert run.state == "COMPENSATING"
    lab.advance(LEASE)
    run.undo("a")
    assert run.state == "CANCELLED"


def test_an_older_attempt_is_not_the_answer_about_a_newer_one(lab: Lab) -> None:
    """R19: attempt 2 is the unknown one, and attempt 1 reports: outstanding, the step stays UNKNOWN."""
    run = lab.run(a=ASKED, b={})
    old = run.lose("a")
    run.do("a", outcome="not_done")
    run.do("a", outcome="unknown")
    assert run.step("a")["state"] == "UNKNOWN"

    assert run.commit("a", old, output={"charge": 1})["verdict"] == "late"
    assert run.step("a")["state"] == "UNKNOWN"
    assert [entry["output"] for entry in run.row()["outstanding"]] == [{"charge": 1}]
