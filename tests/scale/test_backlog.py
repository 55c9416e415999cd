"""P13, R22: messages that wait because no worker takes them are not taken for lost, whatever their age."""

import os
from collections.abc import Callable
from contextlib import closing

import pytest
import redis

from sagas import SagaClient
from sagas.testing import move_clock
from tests.harness.celery_fixtures import StartBeat, StartWorker
from tests.harness.celery_nodes import WorkerProcess
from tests.harness.database import Query
from tests.harness.effects import Effects
from tests.harness.servers import BrokerServer
from tests.harness.wait import wait_for
from tests.scale.load import engine, start_many, turn_back

SAGAS = int(os.environ.get("HODEI_SCALE", "500"))
GOING_BACK = SAGAS // 10
HOPS, HOP = 20, 30.0
"""Ten minutes, in seconds; at least two ticks of reconcile run to their end between two hops."""
QUICK = {"HODEI_RECONCILE_EVERY": "0.2"} if SAGAS < 2000 else {}
"""More ticks a second where each is short, so that the small size does not take a minute."""
MINUTES = 60 + SAGAS // 5
"""Seconds that the machine may take for anything below."""

pytestmark = [pytest.mark.slow, pytest.mark.scale, pytest.mark.timeout(120 + 3 * MINUTES)]


def ticks_of(control: WorkerProcess) -> int:
    """How many ticks that worker has executed."""
    lines = (line for line in control.log().splitlines() if "Task sagas.reconcile[" in line)
    return sum(" succeeded in " in line for line in lines)


def depths(client: "redis.Redis") -> dict[str, int]:
    return {queue: int(client.llen(queue)) for queue in ("steps", "compensations", "control")}


@pytest.mark.saga_modules("tests.scale.sagas")
def test_ten_minutes_without_a_worker(
    start_worker: StartWorker,
    start_beat: StartBeat,
    broker_server: BrokerServer,
    database_url: str,
    query: Query,
    effects: Effects,
    record_property: Callable[[str, object], None],
) -> None:
    control = start_worker(queues=["control"], name="control")
    start_beat(env=QUICK)
    ours = engine(database_url, broker_server.url)
    sagas = start_many(ours, query, SAGAS)
    for saga_id in sagas[:GOING_BACK]:
        turn_back(ours, saga_id)
    # The first message of a saga that was moved by hand is still there, and refused when it is taken.
    before = {"steps": SAGAS, "compensations": GOING_BACK}
    with broker_server.client() as client, closing(query.connect()) as connection:
        seen = [depths(client)]
        seen_first = {queue: seen[0][queue] for queue in before}
        ticks = ticks_of(control)
        for hop in range(1, HOPS + 1):
            move_clock(connection, hop * HOP)
            enough = ticks_of(control) + 2
            wait_for(lambda: ticks_of(control) >= enough, MINUTES, control.tail)  # noqa: B023 - called at once
            seen.append(depths(client))
        ticks = ticks_of(control) - ticks
        print(f"{SAGAS} sagas, {HOPS * HOP:.0f} s, {ticks} ticks; depths {seen[0]} ... {seen[-1]}")
        record_property("ticks", ticks)
        assert ticks >= 2 * HOPS
        # While it is loaded, a tick that counts between a client's rows and their messages sends as many again.
        assert before["steps"] <= seen[0]["steps"] <= 1.1 * before["steps"]
        assert seen[0]["compensations"] == before["compensations"]
        assert [{queue: one[queue] for queue in before} for one in seen[1:]] == [seen_first] * HOPS
        # Ticks that nobody takes in time are void: what is there came while the longest tick ran.
        assert max(one["control"] for one in seen) < 200
    waiting = query.value("SELECT count(*) FROM saga_instances WHERE live_claims = 0 AND completed_at IS NULL")
    assert waiting == SAGAS and query.value("SELECT count(*) FROM saga_instances WHERE paused_at IS NOT NULL") == 0

    start_worker(queues=["steps", "compensations"], name="steps", concurrency=2)
    wait_for(lambda: query.value("SELECT count(*) FROM saga_instances WHERE completed_at IS NULL") == 0, MINUTES)
    outcomes = {row["state"]: row["n"] for row in query("SELECT state, count(*) AS n FROM saga_instances GROUP BY 1")}
    assert outcomes == {"COMPLETED": SAGAS - GOING_BACK, "CANCELLED": GOING_BACK}
    done = "SELECT kind, step, count(*) AS n, count(DISTINCT saga_id) AS sagas FROM effects GROUP BY 1, 2 ORDER BY 1, 2"
    assert [tuple(row.values()) for row in effects.query(done)] == [
        ("effect", "one", SAGAS - GOING_BACK, SAGAS - GOING_BACK),
        ("effect", "two", SAGAS - GOING_BACK, SAGAS - GOING_BACK),
        ("undo", "one", GOING_BACK, GOING_BACK),
    ]


LONG = 3000
"""Sagas: more than a queue may have before it is counted seldom, and its sagas put off for longer than a look."""
LOOKS = "SELECT round(extract(epoch FROM wake_at - saga_now()))::int AS away, count(*) FROM saga_instances GROUP BY 1"
AWAY = "SELECT count(*) FROM saga_instances WHERE wake_at > saga_now() + interval '5 s'"


@pytest.mark.parametrize("packed", [1, 10])
@pytest.mark.saga_modules("tests.scale.sagas")
def test_a_long_backlog_is_left_alone_until_its_queue_lacks_messages(
    packed: int,
    start_worker: StartWorker,
    start_beat: StartBeat,
    broker_server: BrokerServer,
    database_url: str,
    query: Query,
    effects: Effects,
) -> None:
    """P13, R22: put off for long, and called in at once when the broker forgets, all of them or one.

    `packed`: sagas that one message brings (decision 0014).
    """
    messages = LONG // packed
    control = start_worker(queues=["control"], name="control")
    start_beat(env={"HODEI_RECONCILE_EVERY": "0.2"})
    if packed == 1:
        start_many(engine(database_url, broker_server.url), query, LONG)
    else:
        SagaClient(broker_server.url, database_url=database_url).start_many("bulk", [{}] * LONG)
    # Put off for 15 s (LONG / MOVED): two of three are more than five seconds away, however evenly they come due.
    wait_for(lambda: query.value(AWAY) > 0.5 * LONG, MINUTES, lambda: f"{query(LOOKS)}\n{control.tail()}")
    counted = "SELECT coalesce(max(waiting), 0) FROM saga_backlogs WHERE queue = 'steps'"
    wait_for(lambda: query.value(counted) == LONG, MINUTES, control.tail)
    assert query.value("SELECT needed FROM saga_backlogs WHERE queue = 'steps'") == messages
    with broker_server.client() as client:
        sent = client.llen("steps")
        assert messages <= sent <= 1.1 * messages
        # As many as are there twice, and one that is missed.
        lacking = sent - messages + 1
        client.lpop("steps", lacking)
        wait_for(lambda: client.llen("steps") >= messages, MINUTES, control.tail)
        assert client.llen("steps") == messages, "no more than were missing"
        broker_server.flush()
        wait_for(lambda: client.llen("steps") >= messages, MINUTES, control.tail)
    start_worker(queues=["steps", "compensations"], name="steps", concurrency=2)
    wait_for(lambda: query.value("SELECT count(*) FROM saga_instances WHERE completed_at IS NULL") == 0, MINUTES)
    assert query.value("SELECT count(*) FROM saga_instances WHERE state = 'COMPLETED'") == LONG
    assert effects.query("SELECT count(*) AS n FROM effects WHERE kind = 'effect'")[0]["n"] == 2 * LONG
    wait_for(lambda: query.value("SELECT count(*) FROM saga_backlogs") == 0, MINUTES, control.tail)
