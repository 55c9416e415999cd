"""P13: what only waits in a whole queue is put off as one; what is due for anything else is not."""

import uuid

from sagas.store.answers import Backlog
from tests.store.lab import LEASE, NODE, Lab


def test_only_what_waits_for_its_message_is_put_off(lab: Lab) -> None:
    lab.define("plain", one={}, two={})
    lab.define("hasty", timeout=5, one={})
    waiting, claimed, late = lab.start("plain", published=True), lab.start("plain", published=True), lab.start("hasty")
    unpublished, other = lab.start("plain"), lab.start("plain", published=True)
    attempt = uuid.uuid4()
    back = lab.start("plain")
    back.do("one")
    assert back.cancel() == "compensating"
    assert lab.store.claim(claimed.saga_id, "one", False, attempt, NODE)["verdict"] == "granted"
    lab.sql("UPDATE saga_steps SET queue = 'other' WHERE saga_id = %s", str(other.saga_id))
    lab.sql("UPDATE saga_steps SET published_at = saga_now() WHERE saga_id = %s", str(back.saga_id))
    lab.advance(3)
    assert lab.store.put_off("steps", 5, 100) == 1
    assert back.row()["wake_at"] <= lab.now()
    assert lab.store.put_off("compensations", 5, 100) == 1
    assert (back.row()["wake_at"] - lab.now()).total_seconds() == 5
    assert (waiting.row()["wake_at"] - lab.now()).total_seconds() == 5
    assert all(run.row()["wake_at"] <= lab.now() for run in (unpublished, other, late, claimed))
    lab.advance(6)
    assert {one["saga_id"] for one in lab.reconcile()} == {
        str(run.saga_id) for run in (waiting, unpublished, other, back)
    }
    assert (claimed.row()["wake_at"] - lab.now()).total_seconds() == LEASE - 9
    assert late.state == "CANCELLED"


def test_a_time_limit_is_not_put_off(lab: Lab) -> None:
    """However long its queue is: the saga is due again when its time is up."""
    lab.define("hasty", timeout=60, one={})
    run = lab.start("hasty", published=True)
    lab.advance(3)
    assert lab.store.put_off("steps", 500, 100) == 1
    assert (run.row()["wake_at"] - lab.now()).total_seconds() == 57
    assert lab.reconcile() == []
    lab.advance(58)
    lab.reconcile()
    assert run.state == "CANCELLED"


def test_what_was_put_off_for_long_is_called_in(lab: Lab) -> None:
    """R22: its queue lacks messages. Nothing else is touched: no retry's pause, no other queue, nobody's claim."""
    lab.define("plain", one={}, two={})
    lab.define("hasty", timeout=600, one={})
    long, later, back = lab.start("plain", published=True), lab.start("plain", published=True), lab.start("plain")
    hasty, other, claimed = (lab.start(name, published=True) for name in ("hasty", "plain", "plain"))
    back.do("one")
    assert back.cancel() == "compensating"
    lab.sql("UPDATE saga_steps SET queue = 'other' WHERE saga_id = %s", str(other.saga_id))
    lab.sql("UPDATE saga_steps SET published_at = saga_now() WHERE saga_id = %s", str(back.saga_id))
    lab.advance(3)
    assert lab.store.put_off("steps", 500, 1) == 1
    for queue, count in (("steps", 3), ("other", 1), ("compensations", 1)):
        assert lab.store.put_off(queue, 900, 100) == count
    claimed.claim("one")
    due = claimed.row()["wake_at"]
    first = next(run for run in (long, later, hasty, claimed) if (run.row()["wake_at"] - lab.now()).seconds == 500)

    assert lab.store.call_in("steps", 5, 1) == 1
    assert first.row()["wake_at"] == lab.now(), "what was put off first"
    assert lab.store.call_in("steps", 5, 100) == 2
    assert lab.store.call_in("steps", 5, 100) == 0, "once"
    assert all(run.row()["wake_at"] == lab.now() for run in (long, later, hasty))
    assert (other.row()["wake_at"] - lab.now()).total_seconds() == 900
    assert claimed.row()["wake_at"] == due
    assert lab.store.call_in("compensations", 5, 100) == 1
    assert back.row()["wake_at"] == lab.now()
    found = {one["saga_id"] for one in lab.reconcile()}
    assert found == {str(run.saga_id) for run in (long, later, hasty, back)}


def test_a_backlog_is_on_record_until_nobody_waits(lab: Lab) -> None:
    lab.store.backlog("steps", 5000, 700, 5001)
    lab.advance(7)
    lab.store.backlog("other", 10, 10, 3)
    answer = lab.store.reconcile(1)
    assert answer is not None
    assert answer.backlogs == {"steps": Backlog(5000, 700, 5001, 7), "other": Backlog(10, 10, 3, 0)}
    lab.store.backlog("steps", 0, 0, 0)
    lab.store.backlog("other", 9, 9, 9)
    answer = lab.store.reconcile(1)
    assert answer is not None
    assert answer.backlogs == {"other": Backlog(9, 9, 9, 0)}
