"""A connection to Redis of our own, beside those of a kombu channel's pool: they may be few, and to take one from
there, or to make redis-py's client, takes about as long as the command itself.
"""

from __future__ import annotations

import select
import ssl
from collections.abc import Sequence
from typing import Any

from kombu.transport import redis

from sagas.runtime.maker import Raw

Command = tuple[Any, ...]


class Line:
    """To where that channel's go; connected when first something is said. For one thread at a time.

    Nothing is tried again here. Raises what redis-py raises when the server is away, and is connected anew after that.
    """

    def __init__(self, channel: redis.Channel) -> None:
        self._pool = channel.pool
        self._prefix = channel.global_keyprefix
        self._connection: Any = None
        self._unheard = 0

    def key(self, key: str) -> str:
        """As that channel names it there."""
        return f"{self._prefix}{key}"

    def pushing(self, messages: Sequence[Raw]) -> list[Command]:
        """What puts these into their lists."""
        return [("LPUSH", self.key(key), text) for key, text in messages]

    def is_up(self) -> bool:
        """Whether it is connected, as far as this end knows: a server may close what is idle."""
        line = self._connection
        sock = line and line._sock
        # A socket of TLS has read ahead; and eventlet takes poll away.
        if sock is None or isinstance(sock, ssl.SSLSocket) or not hasattr(select, "poll"):
            return line is not None and not line.can_read()
        # redis-py tries to read, and catches what that raises: longer than to send a message, if the process is idle.
        poller = select.poll()
        poller.register(sock, select.POLLIN)
        return not poller.poll(0)

    def say(self, commands: Sequence[Command]) -> None:
        """Send these, when what was said before is answered, by a connection that is up."""
        line = self._connection
        if line is None:
            line = self._connection = self._pool.connection_class(**self._pool.connection_kwargs)
        else:
            try:
                # As a pool does with what it gives: a server may close what is idle.
                if line.can_read():
                    raise redis.redis.ConnectionError("there is an answer that nobody asked for")
            except (redis.redis.ConnectionError, redis.redis.TimeoutError, OSError):
                line.disconnect()
        self.send(commands)

    def send(self, commands: Sequence[Command]) -> None:
        """The same for whoever has just asked whether it `is_up`. Redis's answer is not waited for, to redis-py's PING
        after an idle time (`health_check_interval`) neither: who hears finds out as much.
        """
        line = self._connection
        line.send_packed_command(line.pack_commands(commands), check_health=False)
        self._unheard = len(commands)

    def hear(self) -> list[redis.redis.ResponseError]:
        """The answers to what was said last: those that are refusals."""
        refusals = []
        try:
            while self._unheard:
                try:
                    self._connection.read_response()
                except redis.redis.ResponseError as error:
                    refusals.append(error)
                self._unheard -= 1
        except BaseException:  # a time limit, too: the rest of the answers would be taken for those to what comes next
            self.hang_up()
            raise
        return refusals

    def hang_up(self) -> None:
        self._unheard, line, self._connection = 0, self._connection, None
        if line is not None:
            line.disconnect()


def put(channel: redis.Channel, messages: Sequence[Raw]) -> None:
    """Put these into their lists, for somebody who does so seldom. Raises what redis-py raises, refusals, too."""
    line = Line(channel)
    try:
        line.say(line.pushing(messages))
        for refusal in line.hear():
            raise refusal
    finally:
        line.hang_up()
