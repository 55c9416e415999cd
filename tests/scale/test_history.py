"""L65: what is finished costs reconcile nothing. The tick's own statements, by EXPLAIN (ANALYZE, BUFFERS)."""

import os
import uuid
from contextlib import closing
from dataclasses import dataclass

import pytest

from sagas.runtime.engine import Engine
from sagas.runtime.process import claimant
from sagas.runtime.reconcile import reconcile
from sagas.runtime.relay import relay
from sagas.store.definitions import register
from sagas.testing import move_clock
from tests.harness.database import MakeDatabase, Query
from tests.harness.servers import BrokerServer
from tests.scale.cost import buffers, reads, statements_of, watched
from tests.scale.history import fill
from tests.scale.load import engine, start_many, turn_back
from tests.scale.sagas import bulk

HISTORY = int(os.environ.get("HODEI_HISTORY", "50000"))
EACH = 5
"""Active sagas of each kind: queued, never published, running, going back."""
ACTIVE = 4 * EACH
DEEPER = 2.5
"""By how much the trees of a million rows may be deeper than those of twenty."""

pytestmark = [pytest.mark.slow, pytest.mark.scale, pytest.mark.timeout(120 + HISTORY // 500)]


def make_active(ours: Engine, query: Query) -> None:
    """Sagas in every state that reconcile looks at, all of them due."""
    queued = start_many(ours, query, 3 * EACH)
    for saga_id in queued[EACH : 2 * EACH]:
        ours.store.claim(saga_id, "one", False, uuid.uuid4(), claimant("active", uuid.uuid4()))
    for saga_id in queued[2 * EACH :]:
        turn_back(ours, saga_id)
    for _ in range(EACH):
        query("SELECT start_saga('bulk')")


@dataclass(frozen=True)
class Costs:
    """Of one tick by statement: buffers without any active saga and with some, and what the latter reads."""

    idle: dict[str, int]
    active: dict[str, int]
    reads: dict[str, tuple[int, int]]


def test_what_has_stopped_does_not_wait_behind_what_runs(
    database_url: str, broker_server: BrokerServer, query: Query, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A tick has so many looks; sagas that run are due once in two seconds and take up none (decision 0021)."""
    for name, looks in (("PROBE", 2), ("BATCH", 2), ("MOST_BATCHES", 1)):
        monkeypatch.setattr(f"sagas.runtime.reconcile.{name}", looks)
    ours = engine(database_url, broker_server.url)
    register(ours.sql, [bulk], ours.settings)
    for saga_id in start_many(ours, query, 20):
        ours.store.claim(saga_id, "one", False, uuid.uuid4(), claimant("active", uuid.uuid4()))
    with closing(query.connect()) as connection:
        move_clock(connection, 10)
    query("SELECT start_saga('bulk')")
    ticked = reconcile(ours)
    assert (ticked.looked_at, ticked.published) == (1, 1)


def measure(database_url: str, broker_url: str, history: int) -> Costs:
    ours = watched(engine(database_url, broker_url))
    register(ours.sql, [bulk], ours.settings)
    query = Query(database_url)

    def tick() -> None:
        reconcile(ours)
        relay(ours)
        ours.store.node_beat(claimant("active", uuid.UUID(int=1)), ["steps"])

    with closing(query.connect()) as connection:
        fill(connection, history)
        idle = buffers(database_url, statements_of(tick))
        make_active(ours, query)
        move_clock(connection, 10)
        statements = statements_of(tick)
        move_clock(connection, 20)
        active = buffers(database_url, statements)
        found = Costs(idle, active, reads(ours, tick))
    ours.sql.dispose()
    return found


def test_history_costs_nothing(make_database: MakeDatabase, broker_server: BrokerServer) -> None:
    empty = measure(make_database("engine"), broker_server.url, 0)
    broker_server.flush()
    full = measure(make_database("engine"), broker_server.url, HISTORY)
    for name in full.active:
        numbers = (empty.idle.get(name, 0), full.idle.get(name, 0), empty.active[name], full.active[name])
        print(f"{name:24}" + "".join(f"{number:8}" for number in numbers))
    for name, (scans, tuples) in sorted(full.reads.items()):
        print(f"{name:32} {scans:6} scans {tuples:6} tuples")
    # A tick on tables where all is finished touches the buffers of one on empty tables.
    assert sum(full.idle.values()) <= 1.1 * sum(empty.idle.values())
    # With work it reads the same rows, by indexes: what grows is the depth of these trees.
    assert not {"saga_instances", "saga_steps", "saga_events"} & set(full.reads), "a sequential scan"
    assert full.reads["idx_saga_instances_wake"][0] <= 4, "what is due, or too early, and what waits either way"
    assert sum(tuples for _, tuples in full.reads.values()) <= 25 * ACTIVE
    assert sum(full.active.values()) <= DEEPER * sum(empty.active.values())
