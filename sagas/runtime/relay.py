"""The relay: events that somebody wants go out, in order per stream, at least once. Beat calls it, it acts once."""

from __future__ import annotations

import logging
import time
import uuid
from dataclasses import dataclass
from typing import Any

from sagas.runtime.backlog import by_queue, queue_depth
from sagas.runtime.engine import Engine
from sagas.runtime.exchange import publish_events
from sagas.runtime.process import host_id, is_dead
from sagas.runtime.subscribers import publish_delivery
from sagas.store.relay import RelayStore

log = logging.getLogger(__name__)

BATCH = 200
MOST_BATCHES = 5
# So many messages of one delivery that no worker claimed: its task is registered nowhere, and vanishes silently.
MOST_UNCLAIMED = 10
# What exchanges may take of one tick (seconds): the next reconcile comes after it.
EXCHANGE_TIME = 1.0


@dataclass(frozen=True)
class Relayed:
    """What one tick did, in deliveries. `exchanged`: taken by the broker for an exchange."""

    taken_back: int = 0
    published: int = 0
    lost: int = 0
    exchanged: int = 0


def relay(engine: Engine) -> Relayed:
    """One tick: bounded, and harmless beside another one."""
    store = RelayStore(engine.sql)
    taken_back = take_back_dead(engine, store) + take_back_silent(engine, store)
    published = lost = 0
    for _ in range(MOST_BATCHES):
        looked_at, found = store.relay(BATCH)
        doubtful = lost_deliveries(engine, store, [one for one in found if not one["known"]])
        again = [one for one in doubtful if store.send_again(one["delivery_id"], MOST_UNCLAIMED)]
        for one in [one for one in found if one["known"]] + again:
            published += publish_delivery(engine.app, one)
        lost += len(again)
        if looked_at < BATCH:
            break
    until = time.monotonic() + EXCHANGE_TIME
    exchanged = sum(publish_events(engine, store, name, exchange, until) for name, exchange in store.exchanges())
    if taken_back or lost:
        log.warning("relay: %d claims of the dead taken back, %d lost messages sent again", taken_back, lost)
    return Relayed(taken_back, published, lost, exchanged)


def take_back_dead(engine: Engine, store: RelayStore) -> int:
    """Claims whose process is proven gone: same boot, same pid namespace, no such process. How many."""
    host = host_id()
    if host is None:
        return 0
    count = 0
    for delivery_id, attempt_id, pid, started in store.delivery_claims_of(host):
        if is_dead(pid, started):
            publish_delivery(engine.app, store.lose_delivery(delivery_id, attempt_id, f"process {pid} is gone"))
            count += 1
    return count


def take_back_silent(engine: Engine, store: RelayStore) -> int:
    """Claims of nodes without a heartbeat: a machine that died, or hangs. How many."""
    silent = store.silent_deliveries(engine.settings.node_dead)
    for claim in silent:
        why = f"node {claim['node']} is silent"
        found = store.lose_delivery(claim["delivery_id"], uuid.UUID(claim["attempt_id"]), why)
        publish_delivery(engine.app, found)
    return len(silent)


def lost_deliveries(engine: Engine, store: RelayStore, doubtful: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Of deliveries whose message is out for a while, those to be sent again: as many as their queue lacks (R22)."""
    queues = by_queue(doubtful)
    if not queues:
        return []
    waiting = store.sent_to(sorted(queues))
    lost: list[dict[str, Any]] = []
    for queue, deliveries in queues.items():
        depth = queue_depth(engine, queue)
        if depth is not None and waiting.get(queue, 0) > depth:
            lost += deliveries[: waiting[queue] - depth]
    return lost
