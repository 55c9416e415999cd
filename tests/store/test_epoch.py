"""After a crash of PostgreSQL the unlogged epoch is empty, and claims may have vanished: R13."""

from sagas import Saga
from sagas.settings import Settings
from sagas.store.definitions import register
from tests.harness.database import MakeDatabase
from tests.harness.servers import PostgresServer
from tests.store.lab import LEASE, ONCE, PIVOT, Lab


def crash(lab: Lab) -> None:
    """What a crash of PostgreSQL does to the epoch."""
    lab.sql("DELETE FROM engine_epoch")


def test_the_current_pending_step_may_have_acted(lab: Lab) -> None:
    """R13 (trace): its claim vanished, its effect is there; a cancel must undo it, and wait until it has ended."""
    run = lab.run(a={}, b={})
    crash(lab)
    lab.reconcile()

    assert run.step("a")["effect_possible"] is True
    assert run.step("b")["effect_possible"] is False
    assert (run.row()["quiet_at"] - lab.now()).total_seconds() == LEASE
    assert run.cancel() == "compensating"
    assert run.verdict("a", undo=True) == "quiet"
    lab.advance(LEASE + 0.1)
    run.undo("a")
    assert run.state == "CANCELLED"


def test_the_epoch_is_written_once(lab: Lab) -> None:
    """R13: the next reconcile finds it."""
    run = lab.run(a={})
    crash(lab)
    lab.reconcile()
    quiet_at = run.row()["quiet_at"]
    lab.advance(5)
    lab.reconcile()

    assert run.row()["quiet_at"] == quiet_at
    assert lab.value("SELECT count(*) FROM engine_epoch") == 1


def test_the_step_itself_may_be_run_again_at_once(lab: Lab) -> None:
    """R11, R13: forward steps that are idempotent do not wait."""
    run = lab.run(a={}, b={})
    crash(lab)
    lab.reconcile()
    run.do("a", "b")

    assert run.state == "COMPLETED"


def test_a_non_idempotent_step_after_it_waits(lab: Lab) -> None:
    """R11: another run of a non-idempotent step, and everything that reads the outside, waits for quiet_at."""
    run = lab.run(a={}, b=ONCE)
    crash(lab)
    lab.reconcile()
    run.do("a")

    assert run.verdict("b") == "quiet"
    lab.advance(LEASE + 0.1)
    assert run.verdict("b") == "granted"


def test_claims_that_waited_for_the_disk_are_not_touched(lab: Lab) -> None:
    """R13: a non-idempotent PENDING step was not begun, or its claim would be there."""
    run = lab.run(a=ONCE)
    crash(lab)
    lab.reconcile()

    assert (run.step("a")["effect_possible"], run.row()["quiet_at"]) == (False, None)
    assert run.cancel() == "cancelled"


def test_a_transactional_step_leaves_nothing(lab: Lab) -> None:
    """R13, P4: what did not commit is not there."""
    run = lab.run(a={"transactional": True})
    crash(lab)
    lab.reconcile()

    assert run.step("a")["effect_possible"] is False


def test_a_child_that_is_not_on_record_was_not_started(lab: Lab) -> None:
    """R13: it starts by the commit, so that nothing need be undone and nobody waits (chaos, seed 3: 310 s)."""
    kid = lab.define("kid", k={})
    family = Saga("family")
    family.child("c", kid.name)
    register(lab.engine, [family], Settings())
    run = lab.start("family")
    crash(lab)
    lab.reconcile()

    assert (run.step("c")["effect_possible"], run.row()["quiet_at"]) == (False, None)
    assert run.cancel() == "cancelled"


def test_a_pivot_whose_claim_vanished_is_open(lab: Lab) -> None:
    """R13, R16: it may have been claimed and may have acted: a cancel is a note, not the end."""
    run = lab.run(a={}, p=PIVOT, b={})
    run.do("a")
    crash(lab)
    lab.reconcile()

    assert run.cancel() == "noted"
    assert run.state == "IN_PROGRESS"
    run.do("p", "b")
    assert run.state == "COMPLETED"


def test_finished_sagas_are_left_alone(lab: Lab) -> None:
    """P9."""
    run = lab.run(a={})
    run.do("a")
    before = run.dump()
    crash(lab)
    lab.reconcile()

    assert run.dump() == before


def test_a_real_crash_empties_the_epoch(postgres_server: PostgresServer, make_database: MakeDatabase) -> None:
    """R13: the table really is empty after a crash recovery, and survives an orderly stop."""
    lab = Lab(make_database("engine"))
    try:
        postgres_server.stop()
        postgres_server.start()
        lab.reopen()
        assert lab.value("SELECT count(*) FROM engine_epoch") == 1
        postgres_server.kill()
        postgres_server.start()
        lab.reopen()
        assert lab.value("SELECT count(*) FROM engine_epoch") == 0
    finally:
        lab.close()


def test_an_outcome_reported_over_a_crashed_connection_is_recorded(
    postgres_server: PostgresServer, make_database: MakeDatabase
) -> None:
    """Design 6.8, P7: what libpq says of a crash is no answer; the report is made again, a late one as well."""
    lab = Lab(make_database("engine"))
    run = lab.run(a={"idempotent": False})
    attempt = run.claim("a")
    postgres_server.crash_backend(lab.value("SELECT pg_backend_pid()"))

    # The connection of the store's pool is broken, and does not know it yet.
    assert run.commit("a", attempt)["verdict"] == "committed"
    lab.reopen()
    assert run.state == "COMPLETED"
    lab.close()
