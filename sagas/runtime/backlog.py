"""Queues and the sagas that wait in them: which messages are lost (R22), what a whole backlog is spared (P13).

A tick costs what is due, not what waits. A long queue is counted seldom: until the next count its depth tells, which
falls when the broker forgets. Its sagas are put off, the longer the more of them there are; while they are, each tick
watches the queue for them, and calls them in when it lacks messages.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

from kombu.exceptions import ChannelError, OperationalError

from sagas.runtime.engine import Engine
from sagas.store.answers import Backlog

log = logging.getLogger(__name__)

# So many sagas a second may be counted, and put off, for one queue: what a backlog of any length costs.
COUNTED = 1000
MOVED = 200
# A count is believed for so many seconds at most, and while so much of its messages is there (workers take them, too).
LONGEST_TRUST = 30.0
STILL_THERE = 0.9
# Seconds that a saga is put off at least; a look by itself is never further away (`saga_look`).
SHORTEST_LOOK = 5.0
# At most so many sagas are put off, or called in, by one statement.
PUT_OFF = 5000
CALLED_IN = 1000


class Queues:
    """One tick's view of the queues, each counted once; `known` are the backlogs on record."""

    def __init__(self, engine: Engine, known: Mapping[str, Backlog]) -> None:
        self._engine = engine
        self._known = known
        self._asked: set[str] = set()
        self._waiting: dict[str, int] = {}
        self._missing: dict[str, int] = {}
        """Messages, less those that this tick sends again. Not of a queue whose depth the broker does not tell."""

    def lost(self, doubtful: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Of sagas whose message is out for a while, those to be sent again: as many as their queue lacks."""
        due = by_queue(doubtful)
        # Those on record, too: their sagas may be put off, and only their queue tells.
        new = {*due, *self._known} - self._asked
        self._ask(sorted(new))
        lost: list[dict[str, Any]] = []
        for queue, sagas in sorted(due.items()):
            again = sagas[: self._missing.get(queue, 0)]
            if again:
                self._missing[queue] -= len(again)
                lost += again
        for queue in sorted(new & self._known.keys() & self._missing.keys()):
            if self._missing[queue] > 0:
                self._engine.store.call_in(queue, SHORTEST_LOOK, min(self._missing[queue], CALLED_IN))
        return lost

    def put_off(self) -> None:
        """A full batch was due. What only waits in whole queues is not looked at one by one: others are behind it."""
        for queue in [queue for queue, missing in self._missing.items() if missing == 0]:
            self._engine.store.put_off(queue, max(self._waiting[queue] / MOVED, SHORTEST_LOOK), PUT_OFF)

    def _ask(self, queues: list[str]) -> None:
        """How many sagas wait in each of these queues, and how many messages it lacks."""
        self._asked.update(queues)
        to_count: dict[str, int] = {}
        for queue in queues:
            depth = queue_depth(self._engine, queue)
            if depth is not None and self._believed(queue, depth):
                self._waiting[queue], self._missing[queue] = self._known[queue].waiting, 0
            elif depth is not None:
                to_count[queue] = depth
        counts = self._engine.store.waiting(list(to_count)) if to_count else {}
        for queue, before in to_count.items():
            # Asked before and after the count: neither what workers take meanwhile is missing, nor what is started.
            depth = max(before, queue_depth(self._engine, queue) or 0)
            waiting, needed = counts.get(queue, (0, 0))
            self._waiting[queue], self._missing[queue] = waiting, max(needed - depth, 0)
            # On record until nobody waits any more: as long as somebody may have been put off for long.
            if queue in self._known or waiting > SHORTEST_LOOK * MOVED:
                self._engine.store.backlog(queue, waiting, needed, depth)

    def _believed(self, queue: str, depth: int) -> bool:
        """Whether the queue still holds what it held when it was counted, and may be taken for whole."""
        known = self._known.get(queue)
        if known is None or known.depth < known.needed or depth < known.depth * STILL_THERE:
            return False
        return known.age <= min(known.waiting / COUNTED, LONGEST_TRUST)


def by_queue(doubtful: Iterable[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    """What waits in each queue, the oldest first: in this order it is sent again."""
    queues: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for one in sorted(doubtful, key=lambda one: str(one["since"])):
        queues[one["queue"]].append(one)
    return queues


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
