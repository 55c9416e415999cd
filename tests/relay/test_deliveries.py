"""The rules of deliveries, in the store alone: who may claim what, in which order, and what ends how."""

import uuid
from typing import Any

import pytest

from sagas.store.relay import RelayStore, Subscription, subscribe
from sagas.store.requests import Claimant
from tests.store.lab import NODE, Lab

LEASE = 30.0


def emit(lab: Lab, stream: str = "job:1", event_type: str = "Happened") -> int:
    return int(lab.value("SELECT saga_event(%s, %s)", stream, event_type))


def delivery(lab: Lab, event_id: int) -> dict[str, Any]:
    return lab.sql("SELECT * FROM saga_deliveries WHERE event_id = %s", event_id)[0]


def delivery_id(lab: Lab, event_id: int) -> int:
    return int(delivery(lab, event_id)["delivery_id"])


def verdict(store: RelayStore, number: int, attempt: uuid.UUID | None = None) -> str:
    return str(store.claim_delivery(number, attempt or uuid.uuid4(), NODE, LEASE)["verdict"])


def claim(store: RelayStore, number: int) -> uuid.UUID:
    attempt = uuid.uuid4()
    assert verdict(store, number, attempt) == "granted"
    return attempt


def sent(store: RelayStore, known: bool = True) -> list[int]:
    return [one["delivery_id"] for one in store.relay(200)[1] if one["known"] is known]


def test_nothing_is_written_when_nobody_subscribes(lab: Lab) -> None:
    emit(lab, event_type="NobodyWantsIt")
    assert lab.value("SELECT count(*) FROM saga_deliveries") == 0
    emit(lab)
    assert lab.value("SELECT count(*) FROM saga_deliveries") == 1


def test_event_and_delivery_are_one_transaction(lab: Lab) -> None:
    """L6: saved without its event, or told without being saved, cannot be."""
    connection = lab.connect(autocommit=False)
    with connection.cursor() as cursor:
        cursor.execute("SELECT saga_event('job:1', 'Happened')")
    connection.rollback()
    connection.close()
    assert lab.sql("SELECT event_id FROM saga_events WHERE stream = 'job:1'") == []
    assert lab.sql("SELECT event_id FROM saga_deliveries") == []


def test_what_is_wanted_changes_with_the_code(lab: Lab) -> None:
    subscribe(lab.engine, [Subscription("plain", ("Other", "Third"), "task", "events", 3)])
    emit(lab)
    assert lab.sql("SELECT event_id FROM saga_deliveries") == []
    subscribe(lab.engine, [Subscription("plain", ("*",), "task", "mail", 3)])
    assert delivery(lab, emit(lab))["target"] == "mail"
    assert lab.value("SELECT count(*) FROM saga_subscriptions WHERE subscriber = 'counting'") == 2


def test_the_relay_does_not_relay_itself(lab: Lab) -> None:
    subscribe(lab.engine, [Subscription("all", ("*",), "task", "events", 1)])
    emit(lab, stream="events", event_type="DeliveryParked")
    assert lab.sql("SELECT event_id FROM saga_deliveries") == []


def test_one_live_claim_and_the_same_id_again_gets_the_same_answer(lab: Lab, store: RelayStore) -> None:
    number = delivery_id(lab, emit(lab))
    attempt = claim(store, number)
    assert verdict(store, number) == "claimed"
    assert verdict(store, number, attempt) == "granted"
    assert delivery(lab, 1)["attempt"] == 1
    assert store.settle_delivery(number, attempt)["verdict"] == "done"
    assert store.settle_delivery(number, attempt)["verdict"] == "recorded"
    assert verdict(store, number) == "closed"


def test_a_lane_goes_one_by_one_and_each_end_sends_the_next(lab: Lab, store: RelayStore) -> None:
    first, second, third = (delivery_id(lab, emit(lab)) for _ in range(3))
    other = delivery_id(lab, emit(lab, stream="job:2"))
    assert sent(store) == [first, other]
    assert verdict(store, second) == "waits"
    attempt = claim(store, first)
    assert verdict(store, second) == "waits"
    assert store.settle_delivery(first, attempt)["publish"]["delivery_id"] == second
    assert verdict(store, third) == "waits"
    answer = store.settle_delivery(second, claim(store, second), {"type": "E", "message": "m"}, None)
    assert (answer["verdict"], answer["publish"]["delivery_id"]) == ("parked", third)
    assert sent(store) == []


def test_a_failed_one_waits_for_its_time_and_holds_up_its_own_stream_only(lab: Lab, store: RelayStore) -> None:
    first, second = (delivery_id(lab, emit(lab)) for _ in range(2))
    other = delivery_id(lab, emit(lab, stream="job:2"))
    answer = store.settle_delivery(first, claim(store, first), {"type": "E", "message": "m"}, 60.0)
    assert answer == {"verdict": "retried", "publish": None}
    assert verdict(store, first) == "early"
    assert sent(store) == [other]
    lab.advance(59)
    assert sent(store) == [] and verdict(store, second) == "waits"
    lab.advance(2)
    assert sent(store) == [first] and verdict(store, first) == "granted"


def test_an_expired_claim_is_written_and_its_late_end_refused(lab: Lab, store: RelayStore) -> None:
    number = delivery_id(lab, emit(lab))
    attempt = claim(store, number)
    lab.advance(LEASE + 1)
    assert verdict(store, number) == "claimed"
    assert sent(store) == [number]
    assert store.settle_delivery(number, attempt)["verdict"] == "late"
    assert delivery(lab, 1)["error"]["type"] == "AttemptLost"
    assert store.settle_delivery(number, claim(store, number))["verdict"] == "done"


def test_an_event_that_kills_its_handler_is_parked_after_its_attempts(lab: Lab, store: RelayStore) -> None:
    number, second = (delivery_id(lab, emit(lab)) for _ in range(2))
    for _ in range(3):
        claim(store, number)
        lab.advance(LEASE + 1)
        found = sent(store)
    assert found == [second]
    assert delivery(lab, 1)["state"] == "PARKED"
    (event,) = lab.sql("SELECT * FROM saga_events WHERE stream = 'events'")
    assert (event["event_type"], event["payload"]["delivery_id"]) == ("DeliveryParked", number)


def test_a_parked_one_that_is_opened_again_does_not_run_beside_a_later_one(lab: Lab, store: RelayStore) -> None:
    first, second = (delivery_id(lab, emit(lab)) for _ in range(2))
    store.settle_delivery(first, claim(store, first), {"type": "E", "message": "m"}, None)
    later = claim(store, second)
    store.mend_delivery(first, "retry", "mended", "me")
    assert verdict(store, first) == "waits"
    store.settle_delivery(second, later)
    assert verdict(store, first) == "granted"


@pytest.mark.parametrize("closing_first", [True, False])
def test_an_event_and_the_end_before_it_that_do_not_see_each_other(
    lab: Lab, store: RelayStore, closing_first: bool
) -> None:
    """Nobody sends the new one at once: the relay finds it a second later."""
    first = delivery_id(lab, emit(lab))
    attempt = claim(store, first)
    emitter, closer = lab.connect(autocommit=False), lab.connect(autocommit=False)
    with emitter.cursor() as one, closer.cursor() as two:
        steps = [
            lambda: one.execute("SELECT saga_event('job:1', 'Happened')"),
            lambda: two.execute("SELECT saga_delivery_settle(%s, %s, NULL, NULL)", (first, str(attempt))),
        ]
        for step in reversed(steps) if closing_first else steps:
            step()
    emitter.commit()
    closer.commit()
    emitter.close()
    closer.close()
    second = first + 1
    assert sent(store) == []
    lab.advance(1.1)
    assert sent(store) == [second]


def test_a_claim_of_a_silent_node_is_taken_back_early_and_its_end_refused(lab: Lab, store: RelayStore) -> None:
    number = delivery_id(lab, emit(lab))
    node = Claimant("gone", incarnation=uuid.uuid4())
    lab.store.node_beat(node, ["events"])
    lab.sql("UPDATE engine_state SET trust_from = saga_now()")
    attempt = uuid.uuid4()
    assert store.claim_delivery(number, attempt, node, LEASE)["verdict"] == "granted"
    assert store.silent_deliveries(6.0) == []
    lab.advance(6.1)
    (claimed,) = store.silent_deliveries(6.0)
    assert (claimed["delivery_id"], claimed["node"]) == (number, "gone")
    message = store.lose_delivery(number, attempt, "silent")
    assert message is not None and message["delivery_id"] == number
    assert store.settle_delivery(number, attempt)["verdict"] == "late"


def test_a_subscriber_that_moved_gets_what_waits_on_its_new_queue(lab: Lab, store: RelayStore) -> None:
    emit(lab)
    assert [one["queue"] for one in store.relay(200)[1]] == ["events"]
    subscribe(lab.engine, [Subscription("plain", ("Happened",), "task", "mail", 3)])
    lab.advance(3)
    assert [one["queue"] for one in store.relay(200)[1]] == ["mail"]
    assert store.sent_to(["events", "mail"]) == {"mail": 1}


def test_a_waiting_one_is_looked_at_more_and_more_rarely(lab: Lab, store: RelayStore) -> None:
    claim(store, delivery_id(lab, emit(lab)))
    emit(lab)
    looks = 0
    for _ in range(20):
        lab.advance(1)
        looks += store.relay(200)[0]
    assert 3 <= looks <= 6


def test_unclaimed_messages_are_asked_about_and_parked_in_the_end(lab: Lab, store: RelayStore) -> None:
    number = delivery_id(lab, emit(lab))
    assert sent(store) == [number]
    lab.advance(2.1)
    assert sent(store, known=False) == [number]
    assert [store.send_again(number, 3) for _ in range(4)] == [True, True, True, False]
    assert delivery(lab, 1)["error"]["type"] == "Unclaimed"


def buffers(lab: Lab) -> int:
    """Pages that one tick of the relay touches, when its plan is made."""
    lab.sql("SELECT saga_relay(200)")
    (row,) = lab.sql("EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) SELECT saga_relay(200)")
    plan = row["QUERY PLAN"][0]["Plan"]
    return int(plan["Shared Hit Blocks"] + plan["Shared Read Blocks"])


def test_the_cost_of_a_tick_does_not_grow_with_history(lab: Lab, store: RelayStore) -> None:
    empty = buffers(lab)
    lab.sql(
        "INSERT INTO saga_events (stream, event_type, occurred_at) "
        "SELECT 'job:' || n, 'Happened', saga_now() FROM generate_series(1, 30000) n"
    )
    lab.sql(
        "INSERT INTO saga_deliveries (event_id, subscriber, kind, target, stream, state, created_at, closed_at) "
        "SELECT event_id, 'plain', 'task', 'events', stream, 'DONE', saga_now(), saga_now() FROM saga_events"
    )
    lab.sql("VACUUM ANALYZE saga_deliveries")
    assert buffers(lab) <= empty + 5
    emit(lab)
    assert [one["queue"] for one in store.relay(200)[1]] == ["events"]
