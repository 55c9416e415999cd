"""Nothing happens without its event: R7, promise P8."""

import psycopg2
import pytest

from tests.store.lab import LEASE, ONCE, Lab

FORWARD = ["SagaStarted", "StepCompleted", "StepCompleted", "SagaCompleted"]


def test_a_saga_forward(lab: Lab) -> None:
    """P8: the whole story of one that went well."""
    run = lab.run(a={}, b={})
    run.do("a", "b")

    assert run.event_types() == FORWARD
    assert [event["step_name"] for event in run.events()] == [None, "a", "b", None]


def test_a_saga_back(lab: Lab) -> None:
    """P8: and of one that did not."""
    run = lab.run(a={}, b={"attempts": 2})
    run.do("a")
    run.do("b", outcome="failed", retry_in=0.0)
    run.do("b", outcome="failed")
    run.undo("a", outcome="failed", retry_in=0.0)
    run.undo("a")

    assert run.event_types() == [
        "SagaStarted",
        "StepCompleted",
        "StepRetryScheduled",
        "StepFailed",
        "SagaCompensating",
        "CompensationRetryScheduled",
        "StepCompensated",
        "SagaCompensated",
    ]


def test_events_carry_who_and_what(lab: Lab) -> None:
    """The audit trail: correlation id, actor, saga."""
    lab.define("order", a={})
    run = lab.start("order", correlation_id="req-7", actor="checkout")
    run.do("a")

    for event in run.events():
        assert (event["correlation_id"], event["actor"], event["saga_id"]) == ("req-7", "checkout", run.saga_id)
    assert [event.event_type for event in lab.repository.find_events_by_correlation_id("req-7")] == [
        "SagaStarted",
        "StepCompleted",
        "SagaCompleted",
    ]


def test_what_a_step_emits_comes_before_its_end_and_in_order(lab: Lab) -> None:
    """R7: emit is buffered, and written by the statement that commits the step."""
    run = lab.run(a={}, b={})
    run.do("a", events=[("Reserved", {"n": 1}), ("Priced", {"n": 2})])

    assert run.event_types() == ["SagaStarted", "Reserved", "Priced", "StepCompleted"]
    assert run.events()[1]["payload"] == {"n": 1}


@pytest.mark.parametrize("outcome", ["failed", "unknown", "not_ready", "cancel", "bad_output"])
def test_what_a_failed_attempt_emitted_is_not_written(lab: Lab, outcome: str) -> None:
    """R7: if and only if the step commits."""
    run = lab.run(a={}, b={})
    run.do("a", outcome=outcome, events=[("Reserved", {})])

    assert "Reserved" not in run.event_types()


def test_what_a_late_attempt_emitted_is_not_written(lab: Lab) -> None:
    """R7, P3."""
    run = lab.run(a={}, b={})
    old = run.lose("a")
    run.commit("a", old, events=[("Reserved", {})])

    assert "Reserved" not in run.event_types()


def test_an_event_of_a_transaction_that_commits_later_has_a_later_number(lab: Lab) -> None:
    """R7 (trace): within one stream the numbers grow in the order of the commits."""
    run = lab.run(a={"transactional": True}, b={})
    attempt = run.claim("a")
    slow = lab.connect(autocommit=False)
    with slow.cursor() as cursor:
        cursor.execute("CREATE TABLE own (n integer)")  # the step's own work: its transaction is open
        run.cancel()  # commits its events meanwhile
        before = run.events()[-1]["event_id"]
        cursor.execute(
            "SELECT saga_done(%s, 'a', %s, 'null', false, 10, NULL, NULL, '[[\"Mine\", {}]]')",
            (str(run.saga_id), str(attempt)),
        )
    slow.commit()
    slow.close()

    mine = next(event for event in run.events() if event["event_type"] == "Mine")
    assert mine["event_id"] > before


def test_event_numbers_are_not_cached(lab: Lab) -> None:
    """R7: CACHE 1, or two sessions would hand out numbers out of order."""
    assert lab.value("SELECT seqcache FROM pg_sequence WHERE seqrelid = 'saga_events_event_id_seq'::regclass") == 1


def test_every_change_of_a_state_has_an_event_of_the_same_transaction(lab: Lab) -> None:
    """P8: a trigger watches each transaction that changes a saga's or a step's outcome."""
    lab.sql(WATCH)
    run = lab.run(a={}, b=ONCE, c={"attempts": 2}, d={})
    run.do("a", "b")
    run.lose("c")
    run.do("c", outcome="not_ready", retry_in=0.0)
    run.do("c", outcome="unknown")
    run.undo("c", outcome="not_ready", retry_in=0.0)
    run.lose("c", undo=True)
    run.undo("c", "b", "a")
    assert run.state == "COMPENSATED"

    gone = lab.run(a={})
    gone.cancel()
    late = lab.run(30.0, a={})
    lab.advance(LEASE + 1)
    lab.reconcile()
    assert (gone.state, late.state) == ("CANCELLED", "CANCELLED")
    quiet = lab.run(a={})
    with pytest.raises(psycopg2.errors.RaiseException, match="without an event"):
        lab.sql(
            "UPDATE saga_instances SET state = 'FAILED', completed_at = saga_now(), wake_at = NULL WHERE saga_id = %s",
            str(quiet.saga_id),
        )


WATCH = """
CREATE FUNCTION watch() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.state NOT IN ('PENDING', 'IN_PROGRESS') AND OLD.state <> NEW.state
            AND NOT (TG_TABLE_NAME = 'saga_steps' AND NEW.state IN ('COMPENSATING', 'SKIPPED'))
            AND NOT EXISTS (SELECT FROM saga_events WHERE saga_id = NEW.saga_id
                            -- Ours, of this transaction or of a subtransaction of it: seen, and yet not committed.
                            AND NOT pg_visible_in_snapshot(xmin::text::xid8, pg_current_snapshot())) THEN
        RAISE EXCEPTION '% went from % to % without an event', TG_TABLE_NAME, OLD.state, NEW.state;
    END IF;
    RETURN NULL;
END $$;
CREATE CONSTRAINT TRIGGER watch AFTER UPDATE ON saga_instances DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW EXECUTE FUNCTION watch();
CREATE CONSTRAINT TRIGGER watch AFTER UPDATE ON saga_steps DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW EXECUTE FUNCTION watch();
"""
