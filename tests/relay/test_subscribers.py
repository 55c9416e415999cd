"""Subscribers on the real system: order, duplicates, errors, deaths."""

from itertools import groupby
from typing import TYPE_CHECKING

import pytest
from celery import Celery

from tests.harness.celery_fixtures import SCENARIO, StartBeat, StartSystem, StartWorker
from tests.harness.database import Query
from tests.harness.effects import Effects
from tests.harness.processes import Processes
from tests.harness.scenario import plan
from tests.harness.servers import BrokerServer
from tests.harness.wait import wait_for
from tests.relay.conftest import HANDLERS, Emit

if TYPE_CHECKING:
    from sagas import SagaClient

pytestmark = [pytest.mark.slow, pytest.mark.saga_modules(HANDLERS)]


@pytest.fixture(autouse=True)
def counted(query: Query) -> None:
    """The table of the transactional subscriber."""
    query("CREATE TABLE counted (event_id bigint NOT NULL)")


def by_stream(effects: Effects) -> dict[str, list[tuple[str, int]]]:
    """What was seen of each stream, in order: `("begin", event_id)`, `("effect", event_id)`."""
    rows = [(row.detail["stream"], row.kind, int(row.key or 0)) for row in effects.find() if row.detail]
    rows.sort(key=lambda row: row[0])
    return {stream: [(kind, number) for _, kind, number in some] for stream, some in groupby(rows, lambda row: row[0])}


def all_closed(query: Query) -> bool:
    return bool(query.value("SELECT count(*) = 0 FROM saga_deliveries WHERE state = 'OPEN'"))


def states(query: Query) -> dict[int, str]:
    return {row["event_id"]: row["state"] for row in query("SELECT event_id, state FROM saga_deliveries")}


def test_events_of_a_stream_come_in_order_under_two_workers_and_duplicates(
    start_system: StartSystem, start_worker: StartWorker, emit: Emit, effects: Effects, query: Query, broker_url: str
) -> None:
    """P8: at least once is what is promised; without a crash it is once, one by one, in order."""
    start_system()
    start_worker(queues=["events"], concurrency=2, name="more")
    told: dict[str, list[int]] = {f"job:{n}": [] for n in range(4)}
    for _ in range(8):
        for stream, events in told.items():
            events.append(emit(stream))
    with Celery("duplicates", broker=broker_url) as client:
        for _ in range(3):
            for row in query("SELECT delivery_id FROM saga_deliveries ORDER BY random()"):
                client.send_task("events.plain", kwargs=row, queue="events")
    wait_for(lambda: all_closed(query), 60, lambda: str(states(query)))
    expected = {s: [(kind, number) for number in events for kind in ("begin", "effect")] for s, events in told.items()}
    assert by_stream(effects) == expected


def test_an_event_committed_before_a_crash_is_delivered_after_it(
    start_system: StartSystem, emit: Emit, effects: Effects, query: Query
) -> None:
    """L6: the process dies between its commit and whatever it would have published."""
    from sagas.settings import Settings
    from sagas.store.database import connect_engine
    from sagas.store.relay import subscribe, subscriptions_of
    from tests.relay.conftest import ALL

    subscribe(connect_engine(query.url), subscriptions_of(ALL, Settings()))
    number = emit("job:1")
    start_system()
    effects.wait("effect", key=str(number), timeout=20)


def test_a_lost_message_is_sent_again(
    start_system: StartSystem, broker_server: BrokerServer, emit: Emit, effects: Effects, query: Query
) -> None:
    """P10: the broker forgets everything while the messages wait in a queue that the subscriber then leaves."""
    system = start_system()
    system.steps.stop()
    query("UPDATE saga_subscriptions SET target = 'nobody' WHERE subscriber = 'plain'")
    numbers = [emit(f"job:{n}") for n in range(5)]
    wait_for(lambda: query.value("SELECT count(*) FROM saga_deliveries WHERE published_at IS NOT NULL") == 5)
    broker_server.flush()
    query("UPDATE saga_subscriptions SET target = 'events' WHERE subscriber = 'plain'")
    wait_for(lambda: all_closed(query), 30, lambda: str(states(query)))
    assert sorted(int(row.key or 0) for row in effects.find("effect")) == numbers


def test_poison_is_parked_and_the_others_go_on(
    start_system: StartSystem, emit: Emit, effects: Effects, query: Query
) -> None:
    """L34 and L35: what raises is tried again, then parked, and is in nobody's way."""
    start_system()
    poison, after = emit("job:1", do="fail"), emit("job:1")
    flaky, other = emit("job:2", do="flaky:2"), emit("job:3")
    wait_for(lambda: all_closed(query), 30, lambda: str(states(query)))
    assert states(query) == {poison: "PARKED", after: "DONE", flaky: "DONE", other: "DONE"}
    assert [effects.count("begin", key=str(number)) for number in (poison, after, flaky, other)] == [3, 1, 3, 1]
    parked = query("SELECT event_type, payload FROM saga_events WHERE stream = 'events'")
    assert [row["event_type"] for row in parked] == ["DeliveryParked"]
    assert parked[0]["payload"]["error"] == {"type": "RuntimeError", "message": "planned, try 3"}


def test_a_stream_that_waits_holds_up_no_other(
    start_system: StartSystem, start_worker: StartWorker, emit: Emit, effects: Effects
) -> None:
    start_system()
    start_worker(queues=["events"], name="more")
    with effects.held_lock("gate"):
        slow, after = emit("job:1", do="lock:gate"), emit("job:1")
        effects.wait_until_blocked("gate")
        others = [emit("job:2"), emit("job:2")]
        for number in others:
            effects.wait("effect", key=str(number))
        assert effects.count("begin", key=str(after)) == 0
    effects.wait("effect", key=str(after))
    assert [int(row.key or 0) for row in effects.find("effect")] == [*others, slow, after]


def test_a_killed_handler_is_called_again_and_one_that_always_dies_is_parked(
    start_system: StartSystem, emit: Emit, effects: Effects, query: Query
) -> None:
    start_system()
    once, always, after = emit("job:1", do="die:1"), emit("job:2", do="die:9"), emit("job:2")
    effects.wait("effect", key=str(once), timeout=30)
    wait_for(lambda: all_closed(query), 60, lambda: str(states(query)))
    assert states(query) == {once: "DONE", always: "PARKED", after: "DONE"}
    assert effects.count("begin", key=str(always)) == 3


def test_what_a_transactional_subscriber_writes_counts_once(
    start_system: StartSystem, emit: Emit, effects: Effects, query: Query, processes: Processes
) -> None:
    """P8: killed before its commit, after its writes; and raised after its writes."""
    start_system()
    raised = emit("job:1", "Counted", do="flaky:1")
    with effects.held_lock("gate"):
        killed = emit("job:2", "CountedToo", do="gate:gate")
        (pid,) = effects.wait_until_blocked("gate")
        assert query("SELECT event_id FROM counted WHERE event_id = %s", killed) == []
        processes.kill(pid)
    wait_for(lambda: all_closed(query), 30, lambda: str(states(query)))
    assert sorted(row["event_id"] for row in query("SELECT event_id FROM counted")) == [raised, killed]
    assert effects.count("effect", key=str(killed)) == 2


@pytest.mark.saga_modules(HANDLERS, SCENARIO)
def test_a_queue_of_its_own_and_the_events_of_a_saga(
    start_worker: StartWorker, start_beat: StartBeat, saga_client: "SagaClient", emit: Emit, effects: Effects
) -> None:
    """A plain worker consumes the queues that subscribers name; what a saga tells arrives in its order."""
    start_worker()
    start_beat()
    effects.wait("effect", key=str(emit("job:1", "Elsewhere")), step="elsewhere", timeout=20)
    handle = saga_client.start("scenario", plan())
    effects.wait("told", 2, saga_id=handle.saga_id, timeout=20)
    assert effects.story(handle.saga_id, ("told",)) == ["told SagaStarted", "told SagaCompleted"]
