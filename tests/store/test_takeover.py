"""Expiry is written, and the old attempt is refused: R4, R5, R10, promise P3."""

import uuid
from dataclasses import replace

from sagas import SagaId
from sagas.store.requests import StartRequest
from tests.harness.wait import wait_for
from tests.store.lab import LEASE, NODE, ONCE, Lab


def test_a_lease_that_ran_out_by_the_clock_alone_opens_nothing(lab: Lab) -> None:
    """R4 (trace): lease out by the clock, cancel; the saga must not be CANCELLED while the claim is not written off."""
    run = lab.run(a={}, b={})
    run.do("a")
    attempt = run.claim("b")
    lab.advance(LEASE + 1)

    assert run.cancel() == "compensating"
    assert run.state == "COMPENSATING"
    assert run.verdict("a", undo=True) == "claimed"
    assert run.commit("b", attempt)["verdict"] == "committed"
    run.undo("b", "a")
    assert run.state == "CANCELLED"


def test_a_verify_waits_until_the_expiry_is_written(lab: Lab) -> None:
    """R4: by the clock alone nobody is asked."""
    run = lab.run(a={**ONCE, "verify": True})
    run.claim("a")
    lab.advance(LEASE + 1)

    assert run.verdict("a") == "claimed"
    lab.reconcile()
    assert run.ask("a")["phase"] == "verify"


def test_a_commit_after_the_clock_but_before_the_writing_counts(lab: Lab) -> None:
    """R4: until the expiry is written the attempt is the current one."""
    run = lab.run(a={}, b={})
    attempt = run.claim("a")
    lab.advance(LEASE + 1)

    assert run.commit("a", attempt)["verdict"] == "committed"
    lab.reconcile()
    assert run.states() == ["COMPLETED", "PENDING"]
    assert "AttemptLost" not in run.event_types()


def test_a_written_expiry_rotates_the_id(lab: Lab) -> None:
    """R4, P3: the old id is refused by commit, by prepare_undo and by another take-over."""
    run = lab.run(a={}, b={})
    old = run.lose("a")
    step = run.step("a")

    assert step["attempt_id"] != old
    assert step["last_attempt_id"] == old
    assert (step["state"], step["lease_until"], run.row()["live_claims"]) == ("PENDING", None, 0)
    assert lab.store.prepare_undo(run.saga_id, "a", old, {}) is False
    assert lab.store.take_over(run.saga_id, "a", old, "again") == "gone"
    assert run.commit("a", old)["verdict"] == "late"


def test_the_old_attempt_cannot_complete_the_step_of_the_new_one(lab: Lab) -> None:
    """P3, L36, L58: the late commit while the second attempt runs."""
    run = lab.run(a={}, b={})
    old = run.lose("a")
    new = run.claim("a")

    assert run.commit("a", old, output={"by": "old"})["verdict"] == "late"
    assert run.step("a")["state"] == "IN_PROGRESS"
    assert run.commit("a", new, output={"by": "new"})["verdict"] == "committed"
    assert run.step("a")["output_data"] == {"by": "new"}


def test_the_old_attempt_cannot_start_a_compensation(lab: Lab) -> None:
    """P3: nor can its failure turn the saga round."""
    run = lab.run(a={}, b={})
    run.do("a")
    old = run.lose("b")
    new = run.claim("b")

    assert run.commit("b", old, "failed")["verdict"] == "late"
    assert (run.state, run.row()["live_claims"]) == ("IN_PROGRESS", 1)
    assert run.commit("b", new)["verdict"] == "committed"


def test_a_lost_attempt_is_due_again_at_once(lab: Lab) -> None:
    """P2: reconcile itself says what is to be published for it."""
    run = lab.run(a={}, b={})
    run.claim("a")
    lab.advance(LEASE + 1)
    (found,) = lab.reconcile()

    assert found["saga_id"] == str(run.saga_id)
    assert (found["known"], found["undo"]) == (True, False)
    assert [hop["step"] for hop in found["route"]] == ["a", "b"]
    assert run.verdict("a") == "granted"


def test_a_takeover_tells_why(lab: Lab) -> None:
    """P8: who lost what."""
    run = lab.run(a={})
    attempt = run.claim("a")
    lab.store.take_over(run.saga_id, "a", attempt, "process 77 is gone")
    (event,) = [event for event in run.events() if event["event_type"] == "AttemptLost"]

    assert event["payload"] == {
        "attempt_id": str(attempt),
        "node": "test-node",
        "phase": "forward",
        "why": "process 77 is gone",
    }


def test_a_takeover_of_something_else_does_nothing(lab: Lab) -> None:
    """R5: only the id that is live."""
    run = lab.run(a={})
    run.claim("a")
    before = run.dump()

    assert lab.store.take_over(run.saga_id, "a", uuid.uuid4(), "x") == "gone"
    assert run.dump() == before


def test_what_an_undo_needs_survives_the_loss_of_its_attempt(lab: Lab) -> None:
    """L27: prepare_undo is committed before the effect and read back by the undo."""
    run = lab.run(a=ONCE)
    attempt = run.claim("a")
    assert lab.store.prepare_undo(run.saga_id, "a", attempt, {"bucket": "b1"}) is True
    lab.advance(LEASE + 1)
    lab.reconcile()

    answer = run.ask("a", undo=True)
    assert (answer["verdict"], answer["compensation_data"]) == ("granted", {"bucket": "b1"})


def test_the_next_step_sees_the_outputs_of_all_before(lab: Lab) -> None:
    """L26: kill after step 2 of 4: step 3 sees the outputs of 1 and 2."""
    run = lab.run(a={}, b={}, c={}, d={})
    run.do("a", output={"n": 1})
    run.do("b", output={"n": 2})
    run.lose("c")

    answer = run.ask("c")
    assert answer["outputs"] == {"a": {"n": 1}, "b": {"n": 2}}
    assert answer["attempt"] == 2


def test_the_claims_of_the_dead_are_found_without_reading_all_steps(lab: Lab) -> None:
    """A tick costs what is due (P13), also where 3,000 sagas have just come and PostgreSQL knows nothing of them."""
    for table in ("saga_instances", "saga_steps"):
        lab.sql(f"ALTER TABLE {table} SET (autovacuum_enabled = off)")
    lab.define("order", a={}, b={}, c={}, d={})
    for _ in range(10):
        lab.store.start_many([StartRequest("order", {}, saga_id=SagaId.new(), published=True) for _ in range(300)])

    def read() -> int:
        """Rows of steps that were read by scans, when all sessions of the store have told (they do when they end)."""
        lab.engine.dispose()
        others = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
        others += " AND backend_type = 'client backend'"
        wait_for(lambda: lab.value(others) == 0, 10, "sessions of the store")
        return int(lab.value("SELECT seq_tup_read FROM pg_stat_user_tables WHERE relname = 'saga_steps'"))

    lab.store.node_beat(replace(NODE, incarnation=uuid.uuid4()), [])
    before = read()
    for _ in range(10):
        lab.advance(1)
        assert lab.store.live_claims_of("nowhere") == []
        assert lab.store.silent_claims(1.0, 1.0) == []
    assert read() == before
