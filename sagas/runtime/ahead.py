"""A saga's first message, published right before PostgreSQL writes its rows: together the two take as long as one of
them (decision 0019). On Redis alone.

Whoever gets it waits for the rows (`saga_claim`, `ROWS_AWAITED`), and the start is told its route. Where more than the
rows is wanting it goes out when they are there.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any, NamedTuple

from celery import Celery
from kombu.transport import redis

from sagas.runtime.firsts import Firsts
from sagas.runtime.limits import ROWS_AWAITED
from sagas.runtime.maker import Raw
from sagas.runtime.publish import publish_route
from sagas.runtime.redis_line import Line

log = logging.getLogger(__name__)

Route = Sequence[Mapping[str, Any]]

LATE = sum(ROWS_AWAITED) / 2
"""Seconds between a message and its saga's rows after which whoever got it may not have waited for them."""
ALIKE = 2
"""So many starts of a type had the same route, before it is expected of the next one: a payload may name queues."""
ALIKE_AGAIN = 100
"""The same, before a message goes out before its rows once more, where that was in vain."""
LINES = 10
"""So many are kept that nobody uses, as Celery keeps connections (`broker_pool_limit`)."""


class Known(NamedTuple):
    """Of a type: the route of the last start, how many had it one after the other, and how many make it certain."""

    route: Route = ()
    times: int = 0
    wanted: int = ALIKE


class Begun(NamedTuple):
    """The message of a saga that is expected to have this route, made at that time (monotonic, seconds)."""

    saga_id: str
    route: Route
    message: Raw
    at: float
    line: Line | None
    """What it went out on, if it did; Redis's answer is to be heard there."""


class Ahead:
    """Of one client."""

    def __init__(self, app: Celery) -> None:
        self._app = app
        self._routes: dict[str, Known] = {}
        self._far = False
        """Whether the last start took so long that its message would have been there too soon."""
        self._begin_process()

    def _begin_process(self) -> None:
        """A fork's lines, messages (which name their process) and locks are its parent's."""
        self._firsts = Firsts(self._app)
        self._lines: list[Line] = []
        """Those that nobody uses just now."""
        self._pid = os.getpid()

    def begin(self, saga_id: str, saga_type: str, key: str | None) -> Begun | None:
        """Right before the statement that starts this saga; None where its message is Celery's to make afterwards."""
        if self._pid != os.getpid():
            self._begin_process()
        route, times, wanted = self._routes.get(saga_type, Known())
        if times < ALIKE or self._app.current_worker_task is not None:  # whose id would be its parent's
            return None
        try:
            message = self._firsts.make(saga_id, saga_type, route, self._app.thread_oid)
        except Exception:
            log.warning("saga %s: its message is left to Celery", saga_id, exc_info=True)
            return None
        if message is None:
            return None
        at = time.monotonic()
        # With a key it may be that there is such a saga.
        early = key is None and not self._far and times >= wanted
        return Begun(saga_id, route, message, at, self._say_early(message) if early else None)

    def is_other(self, saga_type: str) -> None:
        """A start was refused, because its route is not what was expected: payloads name queues, or there is a new
        version.
        """
        self._routes[saga_type] = Known(wanted=ALIKE_AGAIN)

    def forget(self, saga_type: str) -> None:
        """A start has failed: not much is to be expected of the next one."""
        self._routes[saga_type] = self._routes.get(saga_type, Known())._replace(times=0)

    def publish(self, begun: Begun | None, saga_id: str, saga_type: str, route: Route) -> None:
        """The rows are there: the message goes out, as Celery makes it now where it is not what was expected. Without a
        route the saga was there before: another start's, by its key, or this one's, whose first reply was lost.
        """
        if not route and begun and begun.line and saga_id == begun.saga_id:
            route = begun.route  # the start was told it, so it is the saga's
        if not route:
            return
        expected = begun is not None and (saga_id, route) == (begun.saga_id, begun.route)
        if (begun and expected and self._is_out(begun)) or publish_route(
            self._app, saga_id, saga_type, route, undo=False
        ):
            known = self._routes.get(saga_type, Known())
            times = known.times + 1 if route == known.route else 1
            self._routes[saga_type] = known._replace(route=route, times=times)
        else:
            self.forget(saga_type)

    def _is_out(self, begun: Begun) -> bool:
        """Whether Redis has it, now that the rows are there: a hint that comes twice does no harm."""
        far = self._far = time.monotonic() - begun.at > LATE
        try:
            if begun.line is not None:
                self._hear(begun.line)
                if not far:
                    return True
            return self._put(begun.message)
        except Exception as error:  # noqa: BLE001 - kombu's own way tries again, and says so if it has to give up
            log.info("saga %s: its message is published once more (%s)", begun.saga_id, error)
            return False

    def _say_early(self, message: Raw) -> Line | None:
        """The line that it goes out on; None where there is none that is up: no rows wait for a broker."""
        try:
            line = self._lines.pop()
        except IndexError:
            return None
        with suppress(Exception):  # there is another way, and it says what is wrong
            if line.is_up():
                line.send(line.pushing([message]))
                return line
        self._hang_up(line)
        return None

    def _put(self, message: Raw) -> bool:
        """To where Celery's own messages go; whether that is a Redis still."""
        try:
            line = self._lines.pop()
        except IndexError:
            timeout = self._app.conf.broker_pool_acquire_timeout
            with self._app.pool.acquire(block=True, timeout=timeout) as connection:
                if not connection.connected:  # who waits in vain for a broker waits once, the way Celery does
                    return False
                channel = connection.default_channel
                if not isinstance(channel, redis.Channel):  # it has failed over to another broker
                    return False
                line = Line(channel)
        try:
            line.say(line.pushing([message]))
        except BaseException:
            self._hang_up(line)
            raise
        self._hear(line)
        return True

    def _hear(self, line: Line) -> None:
        """What Redis answers to a message; then the line is free."""
        try:
            for refusal in line.hear():  # it is full, say
                raise refusal
        except BaseException:
            self._hang_up(line)
            raise
        if len(self._lines) < LINES:
            self._lines.append(line)
        else:
            line.hang_up()

    def _hang_up(self, line: Line) -> None:
        """This, and those that nobody uses: they all go to the same broker, which may be another one next time."""
        line.hang_up()
        with suppress(IndexError):
            while True:
                self._lines.pop().hang_up()
