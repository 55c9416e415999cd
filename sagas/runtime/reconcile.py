"""Whatever should have moved by now, and did not: the guarantee behind all the hints. Beat calls it, it acts once."""

from __future__ import annotations

import logging
import uuid
from dataclasses import dataclass

from sagas.runtime.backlog import Queues
from sagas.runtime.engine import Engine
from sagas.runtime.process import host_id, is_dead
from sagas.runtime.publish import publish_found
from sagas.types import SagaId

log = logging.getLogger(__name__)

BATCH = 200
# The first batch of a tick: enough to see that what is due is a backlog whose messages are all there.
PROBE = 20
MOST_BATCHES = 5
# Timers that are put right by one statement: what holds their rows meanwhile takes some 20 ms.
TIMERS = 1000
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
    # First: a saga that runs has a timer that comes too early, and would be looked at before what has stopped.
    for _ in range(MOST_BATCHES):
        if engine.store.put_right(TIMERS) < TIMERS:
            break
    looked_at = published = lost = 0
    queues: Queues | None = None
    for batch in (PROBE, *[BATCH] * MOST_BATCHES):
        answer = engine.store.reconcile(batch)
        if answer is None:
            return Reconciled(looked_at, taken_over, published, lost, busy=True)
        for one in [one for one in answer.found if "trouble" in one]:
            log.error("saga %s cannot be looked at, again in 30 s: %s", one["saga_id"], one["trouble"])
        found = [one for one in answer.found if "trouble" not in one]
        queues = queues or Queues(engine, answer.backlogs)
        missing = queues.lost([one for one in found if not one["known"]])
        again = [one for one in missing if engine.store.lost(SagaId(one["saga_id"]), MOST_UNCLAIMED)]
        for one in (*(one for one in found if one["known"]), *again):
            published += publish_found(engine.app, one)
        looked_at += answer.looked_at
        lost += len(again)
        if answer.looked_at < batch:
            break
        queues.put_off()
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
