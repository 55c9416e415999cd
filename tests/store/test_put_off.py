"""P13: what only waits in a whole queue is put off as one; what is due for anything else is not."""

import uuid

from tests.store.lab import NODE, Lab


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
    assert lab.store.put_off(["steps"], 5, 100) == 1
    assert back.row()["wake_at"] <= lab.now()
    assert lab.store.put_off(["compensations"], 5, 100) == 1
    assert (back.row()["wake_at"] - lab.now()).total_seconds() == 5
    assert (waiting.row()["wake_at"] - lab.now()).total_seconds() == 5
    assert all(run.row()["wake_at"] <= lab.now() for run in (unpublished, other, late))
    assert (claimed.row()["wake_at"] - lab.now()).total_seconds() > 5
    lab.advance(6)
    assert {one["saga_id"] for one in lab.reconcile()} == {
        str(run.saga_id) for run in (waiting, unpublished, other, back)
    }
    assert late.state == "CANCELLED"
