"""Whatever should have moved by now, and did not: the guarantee behind all the hints. Beat calls it, it acts once."""

from __future__ import annotations

import logging
import uuid
from collections import defaultdict
from dataclasses import dataclass
from typing import Any

from kombu.exceptions import ChannelError, OperationalError

from sagas.runtime.engine import Engine
from sagas.runtime.process import host_id, is_dead
from sagas.runtime.publish import publish_found
from sagas.types import SagaId

log = logging.getLogger(__name__)

BATCH = 200
# The first batch of a tick: enough to see that what is due is a backlog whose messages are all there.
PROBE = 20
MOST_BATCHES = 5
# How many sagas of a backlog are put off at once, and for how many seconds: a flushed broker is noticed after these.
BACKLOG_BATCH = 5000
BACKLOG_LOOK = 5.0
# So many messages of one step that no worker claimed: its task is registered nowhere, and vanishes silently.
MOST_UNCLAIMED = 10


@dataclass(frozen=True)
class Reconciled:
    """What one tick did, in sagas. `busy`: another reconcile held the lock."""

    looked_at: int = 0
    taken_over: int = 0
    published: int = 0
    lost: int = 0
    busy: bool = False


def reconcile(engine: Engine) -> Reconciled:
    """One tick: bounded, and harmless beside another one."""
    taken_over = take_over_dead(engine) + take_over_silent(engine)
    looked_at = published = lost = 0
    whole: set[str] = set()
    for batch in (PROBE, *[BATCH] * MOST_BATCHES):
        answer = engine.store.reconcile(batch)
        if answer is None:
            return Reconciled(looked_at, taken_over, published, lost, busy=True)
        count, found = answer
        for one in [one for one in found if "trouble" in one]:
            log.error("saga %s cannot be looked at, again in 30 s: %s", one["saga_id"], one["trouble"])
        found = [one for one in found if "trouble" not in one]
        missing, lacking_none = lost_messages(engine, [o for o in found if not o["known"] and o["queue"] not in whole])
        again = [one for one in missing if engine.store.lost(SagaId(one["saga_id"]), MOST_UNCLAIMED)]
        for one in [one for one in found if one["known"]] + again:
            published += publish_found(engine.app, one)
        looked_at += count
        lost += len(again)
        if count < batch:
            break
        whole.update(lacking_none)
        if whole:
            # A backlog, with every message of it there: what is due besides must not wait behind it.
            engine.store.put_off(sorted(whole), BACKLOG_LOOK, BACKLOG_BATCH)
    if taken_over or lost:
        log.warning("reconcile: %d claims of the dead taken over, %d lost messages sent again", taken_over, lost)
    return Reconciled(looked_at, taken_over, published, lost)


def help_saga(engine: Engine, saga_id: SagaId) -> None:
    """A message says that this saga may be stuck: the same as a tick, for one saga; its undo may follow at once."""
    found = engine.store.hint(saga_id)
    if found is None:
        take_over_dead(engine, only=saga_id)
    elif not engine.continuation.go_back(found):
        publish_found(engine.app, found)


def take_over_dead(engine: Engine, only: SagaId | None = None) -> int:
    """Claims whose process is proven gone: same boot, same pid namespace, no such process (R11). How many."""
    host = host_id()
    if host is None:
        return 0
    count = 0
    for saga_id, step, attempt_id, pid, started in engine.store.live_claims_of(host):
        if (only is None or saga_id == only) and is_dead(pid, started):
            after = engine.store.take_over(saga_id, step, attempt_id, f"process {pid} is gone")
            if after != "gone":
                count += 1
                engine.publish(saga_id)
    return count


def take_over_silent(engine: Engine) -> int:
    """Claims of nodes without a heartbeat: a machine that died, or hangs. How many."""
    settings = engine.settings
    count = 0
    for claim in engine.store.silent_claims(settings.node_beat, settings.node_dead):
        saga_id, attempt_id = SagaId(claim["saga_id"]), uuid.UUID(claim["attempt_id"])
        why = f"node {claim['node']} is silent"
        if engine.store.take_over(saga_id, claim["step"], attempt_id, why, early=True) != "gone":
            count += 1
            engine.publish(saga_id)
    return count


def lost_messages(engine: Engine, doubtful: list[dict[str, Any]]) -> tuple[list[dict[str, Any]], list[str]]:
    """Of sagas whose message is out for a while, those to be published again: as many as their queue lacks (R22).

    And the queues that lack none.
    """
    queues: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for one in doubtful:
        queues[one["queue"]].append(one)
    lost: list[dict[str, Any]] = []
    whole: list[str] = []
    waiting = engine.store.waiting(sorted(queues)) if queues else {}
    for queue, sagas in sorted(queues.items()):
        depth = queue_depth(engine, queue)
        if depth is None:
            continue
        missing = max(waiting.get(queue, 0) - depth, 0)
        if missing == 0:
            whole.append(queue)
        oldest_first = sorted(sagas, key=lambda one: str(one["since"]))
        lost += oldest_first[:missing]
    return lost, whole


def queue_depth(engine: Engine, queue: str) -> int | None:
    """Messages that wait in the broker's queue; None if the broker does not say."""
    try:
        with engine.app.connection_for_write() as connection, connection.channel() as channel:
            return int(channel.queue_declare(queue=queue, passive=True).message_count)
    except ChannelError:
        return 0  # no such queue: nothing waits in it
    except (OperationalError, *engine.app.connection_for_write().recoverable_connection_errors) as error:
        log.warning("the broker does not tell the depth of queue %s: %s", queue, error)
        return None
