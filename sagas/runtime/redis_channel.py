"""A worker's channel on Redis or Valkey: kombu's own, which goes there once for what several messages need.

kombu notes there each message that it takes, and strikes it out when that is acknowledged: two round trips in which a
worker's one event loop does nothing else, each by a client made anew; and a step's next message is a third, of the
process that has done the step. Here they go together, and a quick step's message is not noted at all (decision 0016).
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Sequence
from functools import cached_property
from typing import Any

from celery.worker import state
from kombu.transport import redis, virtual
from kombu.utils.json import dumps

from sagas.runtime.maker import Raw
from sagas.runtime.redis_line import Line, put

log = logging.getLogger(__name__)

SOON = 0.05
"""Seconds after which a message that was taken is noted, if it is not over before. A worker that dies until then has
lost it: only a saga's message may be (`saga_tasks`), which is sent again (R22)."""


class QoS(redis.QoS):
    """What it has to say to Redis waits for the event loop's next turn; what a pool's thread says goes out at once."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._lock = threading.RLock()
        self._taken: dict[str, tuple[float, Any]] = {}
        self._timed = False
        self._over: list[str] = []
        self._said: list[str] = []
        """Of those: what was said last, and is not answered."""
        self._outgoing: list[Raw] = []

    @cached_property
    def _line(self) -> Line:
        return Line(self.channel)

    def append(self, message: Any, delivery_tag: str) -> None:
        if not (self._is_hint(message) and self.channel.connection.loops()):
            super().append(message, delivery_tag)
            return
        virtual.QoS.append(self, message, delivery_tag)
        with self._lock:
            self._taken[delivery_tag] = time.time(), message
        self._note_soon()

    def ack(self, delivery_tag: str) -> None:
        message = self._delivered.get(delivery_tag)
        if self.channel.closed or not self._is_hint(message):
            super().ack(delivery_tag)
            return
        virtual.QoS.ack(self, delivery_tag)
        with self._lock:
            if self._taken.pop(delivery_tag, None) is None:
                self._over.append(delivery_tag)
            if not self.channel.connection.loops():
                self.flush()

    def reject(self, delivery_tag: str, requeue: bool = False) -> None:
        self.flush()
        super().reject(delivery_tag, requeue)

    def restore_unacked_once(self, stderr: Any = None) -> None:
        """At the channel's end."""
        self.finish()
        super().restore_unacked_once(stderr)

    def finish(self) -> None:
        """Nothing more is said on this channel's connections."""
        try:
            self.flush()
        except self.channel.connection_errors as error:
            log.warning("what a worker had to say to Redis at its end is not said: %s", error)
        finally:
            self._line.hang_up()

    def send(self, outgoing: Sequence[Raw]) -> None:
        """Along with the next acknowledgement, which is that of the message they come from."""
        with self._lock:
            self._outgoing += outgoing

    def turn(self) -> None:
        """The event loop begins a turn: what is over, and what follows it, is said without waiting for the answer. What
        was only taken waits for more: it may be over soon.
        """
        with self._lock:
            over, outgoing = self._over, self._outgoing
            if not (over or outgoing):
                self._hear()
                return
            commands = self._line.pushing(outgoing)
            if over:
                commands.append(("ZREM", self._line.key(self.unacked_index_key), *over))
                commands.append(("HDEL", self._line.key(self.unacked_key), *over))
            self._hear()
            # Not twice: whether Redis has them may not be known.
            self._outgoing = []
            self._line.say(commands)
            self._over, self._said = [], over

    def flush(self) -> None:
        """All that waits, and the answers. Nothing is tried again here: where Redis is away, this channel is lost."""
        with self._lock:
            self._hear()
            taken = self._taken
            if taken:
                times = [one for tag, (at, _) in taken.items() for one in (at, tag)]
                notes = [one for tag, (_, message) in taken.items() for one in (tag, _noted(message))]
                index, key = self._line.key(self.unacked_index_key), self._line.key(self.unacked_key)
                self._line.say([("ZADD", index, *times), ("HSET", key, *notes)])
                self._taken = {}
            self.turn()
            self._hear()

    def _is_hint(self, message: Any) -> bool:
        transport = self.channel.connection
        return message is not None and transport is not None and message.headers.get("task") in transport.saga_tasks

    def _hear(self) -> None:
        """The answers to what was said last."""
        try:
            for refusal in self._line.hear():
                # Redis is full, say: what it did not take is sent again (R22).
                log.warning("Redis refused a message, or what becomes of one: %s", refusal)
        except BaseException:
            self._over = self._said + self._over
            raise
        finally:
            self._said = []

    def _note_soon(self) -> None:
        if not self._timed:
            self._timed = True
            self.channel.connection.loop.call_later(SOON, self._note)

    def _note(self) -> None:
        """All that was taken, if the first of it has waited for so long."""
        self._timed = False
        with self._lock:
            if self.channel.closed or not self._taken:
                return
            at, _ = next(iter(self._taken.values()))
            if time.time() - at >= SOON:
                self.flush()
                return
        self._note_soon()


def _noted(message: Any) -> str:
    """As kombu's own reads it when it puts the message back."""
    came = message.delivery_info
    return str(dumps([message._raw, came["exchange"], came["routing_key"]]))


class Channel(redis.Channel):
    QoS = QoS
    _client_kept: Any = None

    def send(self, outgoing: Sequence[Raw]) -> None:
        """Put these into their queues, with the acknowledgement that comes next where that can be."""
        if isinstance(self.qos, QoS):
            self.qos.send(outgoing)
        else:
            put(self, outgoing)

    def turn(self) -> None:
        if isinstance(self._qos, QoS):
            self._qos.turn()

    def close(self) -> None:
        if not self.closed and isinstance(self._qos, QoS):
            self._qos.finish()
        super().close()

    def _create_client(self, asynchronous: bool = False) -> Any:
        """One for all that is not `asynchronous`: to make one takes as long as a command does."""
        if asynchronous:
            return super()._create_client(asynchronous)
        if self._client_kept is None or self._client_kept.connection_pool is not self.pool:
            self._client_kept = super()._create_client()
        return self._client_kept


class _Cycle(redis.MultiChannelPoller):
    """Each turn asks for the next message first."""

    turned_by: int | None = None
    """The thread of the event loop."""

    def on_poll_start(self) -> None:
        self.turned_by = threading.get_ident()
        super().on_poll_start()
        for channel in list(self._channels):
            channel.turn()


class Transport(redis.Transport):
    Channel = Channel
    saga_tasks: frozenset[str] = frozenset()
    """The names of tasks whose messages are only hints."""
    loop: Any = None
    """The event loop that it is registered with, if any."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.cycle = _Cycle()

    def register_with_event_loop(self, connection: Any, loop: Any) -> None:
        super().register_with_event_loop(connection, loop)
        self.loop = loop

    def loops(self) -> bool:
        """Whether it is the event loop that asks, and it will have a next turn. (A worker that ends has none.)"""
        if self.loop is None or self.cycle.turned_by != threading.get_ident():
            return False
        return state.should_stop is state.should_terminate is None
