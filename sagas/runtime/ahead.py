"""A saga's first message, made and published while PostgreSQL writes its rows: together the two take as long as one of
them (decisions 0017 and 0019). On Redis alone.

It is published as soon as it is made, where only the rows are wanting: who gets it waits for them (`ROWS_AWAITED`), and
the start is told its route. Otherwise it goes out when they are there.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from contextvars import copy_context
from functools import partial
from queue import Empty, SimpleQueue
from threading import Thread
from typing import Any, NamedTuple
from weakref import finalize

from celery import Celery
from kombu import Producer
from kombu.transport import redis
from kombu.utils.compat import _detect_environment

from sagas.runtime.copies import is_own, shaped
from sagas.runtime.firsts import Firsts
from sagas.runtime.limits import ROWS_AWAITED
from sagas.runtime.maker import Raw
from sagas.runtime.publish import publish_route
from sagas.runtime.redis_line import Line
from sagas.runtime.stencil import heard

log = logging.getLogger(__name__)

Route = Sequence[Mapping[str, Any]]

Made = SimpleQueue["Sent | BaseException | None"]
"""Where a message will be."""

PATIENCE = 1.0
"""Seconds that a start waits for a message which takes longer than its rows."""

LATE = sum(ROWS_AWAITED) / 2
"""Seconds between a message and its saga's rows after which whoever got it may not have waited for them."""

ALIKE = 2
"""So many starts of a type had the same route, before it is expected of the next one: a payload may name queues."""
ALIKE_AGAIN = 100
"""The same, before a message goes out before its rows once more, where that was in vain."""
LINES = 10
"""So many are kept that nobody uses, as Celery keeps connections (`broker_pool_limit`)."""


class Sent(NamedTuple):
    """A message that is made, and the line that it went out on, if it did; Redis's answer is to be heard there."""

    message: Raw
    at: float
    line: Line | None


class Known(NamedTuple):
    """Of a type: the route of the last start, how many had it one after the other, and how many make it certain."""

    route: Route = ()
    times: int = 0
    wanted: int = ALIKE


class Begun(NamedTuple):
    """One that is being made, for a saga that is expected to have this route; `early`: it is published meanwhile."""

    saga_id: str
    route: Route
    early: bool
    made: Made
    desk: _Desk


class Ahead:
    """Of one client."""

    def __init__(self, app: Celery) -> None:
        self._app = app
        self._routes: dict[str, Known] = {}
        self._given_up: set[str] = set()
        self._far = False
        """Whether the last start took so long that its message would have been there too soon."""
        self._desks: dict[int, _Desk | None] = {}
        """By process: a fork does not have the other one's thread."""

    def begin(self, saga_id: str, saga_type: str, key: str | None) -> Begun | None:
        """Right before the statement that starts this saga; None where its message is Celery's to make afterwards."""
        route, times, wanted = self._routes.get(saga_type, Known())
        if times < ALIKE or saga_type in self._given_up or self._app.current_worker_task is not None:
            return None
        pid = os.getpid()
        desk = self._desks[pid] if pid in self._desks else self._open(pid)
        if desk is None or desk.closed or desk.behind:
            return None
        # With a key it may be that there is such a saga.
        early = key is None and not self._far and times >= wanted
        return Begun(saga_id, route, early, desk.make(saga_id, saga_type, route, early), desk)

    def is_other(self, saga_type: str) -> None:
        """A start was refused, because its route is not what was expected: payloads name queues, or there is a new
        version.
        """
        self._routes[saga_type] = Known(wanted=ALIKE_AGAIN)

    def forget(self, saga_type: str) -> None:
        """A start has failed: not much is to be expected of the next one."""
        self._routes[saga_type] = self._routes.get(saga_type, Known())._replace(times=0)

    def _open(self, pid: int) -> _Desk | None:
        # Asked anew: a process may be forked before it is patched. A green thread that waits stops all others.
        desk = _Desk(self._app) if _detect_environment() == "default" else None
        kept = self._desks.setdefault(pid, desk)  # one of several threads
        if desk is not None and kept is desk:
            try:
                desk.open()
            except RuntimeError:  # Python ends, and starts no threads any more
                desk.close()
            finalize(self, desk.close)
        return kept

    def publish(self, begun: Begun | None, saga_id: str, saga_type: str, route: Route) -> None:
        """The rows are there: the message goes out, as Celery makes it now where it is not what was expected."""
        expected = begun is not None and (saga_id, route) == (begun.saga_id, begun.route)
        if (begun and expected and self._put(begun, saga_type, time.monotonic())) or publish_route(
            self._app, saga_id, saga_type, route, undo=False
        ):
            known = self._routes.get(saga_type, Known())
            times = known.times + 1 if route == known.route else 1
            self._routes[saga_type] = known._replace(route=route, times=times if route else 0)
        else:
            # Who waits in vain for a broker waits once, the way Celery does.
            self.forget(saga_type)

    def _put(self, begun: Begun, saga_type: str, written: float) -> bool:
        """Whether Redis has it, for rows that were there at `written`: a hint that comes twice does no harm."""
        try:
            made = begun.made.get(timeout=PATIENCE)
        except Empty:  # it hangs: at a broker that does not answer, say
            begun.desk.behind = True
            if not begun.made.empty():  # since then, and it may have said so already
                begun.desk.behind = False
            return False
        if isinstance(made, BaseException):
            log.warning("the first messages of %s are made after the rows from now on", saga_type, exc_info=made)
            self._given_up.add(saga_type)
            return False
        if made is None:
            return False
        far = self._far = written - made.at > LATE
        try:
            if made.line is not None:
                begun.desk.hear(made.line)
                if not far:
                    return True
            return begun.desk.put(made.message)
        except Exception as error:  # noqa: BLE001 - kombu's own way tries again, and says so if it has to give up
            log.info("saga %s: its message is published once more (%s)", begun.saga_id, error)
            return False


class _Desk:
    """A thread that makes messages (Celery does, or it is a copy), and what they are sent on."""

    closed = False
    behind = False
    """Whether a message was waited for in vain, and none has been made since."""

    def __init__(self, app: Celery) -> None:
        self._app = app
        self._firsts = Firsts(app)
        self._asked: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._lines: list[Line] = []
        """Those that nobody uses just now."""

    def open(self) -> None:
        Thread(target=self._work, name="hodei-ahead", daemon=True).start()

    def close(self) -> None:
        self.closed = True
        self._asked.put(None)
        self._hang_up()

    def make(self, saga_id: str, saga_type: str, route: Route, early: bool) -> Made:
        """Where it will be: what Celery makes in the caller's context, or would."""
        made: Made = SimpleQueue()
        asked = (saga_id, saga_type, route, self._app.thread_oid)
        self._asked.put(partial(copy_context().run, self._answer, made, early, asked))
        return made

    def put(self, message: Raw) -> bool:
        """To where Celery's own messages go; whether that is a Redis still."""
        line = self._say(message)
        if line is not None:
            self.hear(line)
        return line is not None

    def hear(self, line: Line) -> None:
        """What Redis answers to a message that went out; then the line is free."""
        try:
            for refusal in line.hear():  # it is full, say
                raise refusal
        except BaseException:
            self._hang_up(line)
            raise
        if self.closed or len(self._lines) >= LINES:
            line.hang_up()
        else:
            self._lines.append(line)

    def _say(self, message: Raw) -> Line | None:
        """The line that it goes out on; None where that is no Redis any more."""
        try:
            line = self._lines.pop()
        except IndexError:
            timeout = self._app.conf.broker_pool_acquire_timeout
            with self._app.pool.acquire(block=True, timeout=timeout) as connection:
                channel = connection.default_channel
                if not isinstance(channel, redis.Channel):  # it has failed over to another broker
                    return None
                line = Line(channel)
        key, text = message
        try:
            line.say([("LPUSH", line.key(key), text)])
        except BaseException:
            self._hang_up(line)
            raise
        return line

    def _hang_up(self, *lines: Line) -> None:
        """These, and those that nobody uses: they all go to the same broker, which may be another one next time."""
        for line in lines:
            line.hang_up()
        with suppress(IndexError):
            while True:
                self._lines.pop().hang_up()

    def _work(self) -> None:
        while (asked := self._asked.get()) is not None:
            asked()
            del asked  # while it waits it keeps nobody's context

    def _answer(self, made: Made, early: bool, asked: tuple[str, str, Route, str]) -> None:
        try:
            message = self._make(*asked)
            at, line = time.monotonic(), None
            if message and early:
                # Where that fails, who has asked tries again, with patience.
                with suppress(Exception):
                    line = self._say(message)
            made.put(Sent(message, at, line) if message else None)
        except BaseException as error:  # noqa: BLE001 - for whoever has asked
            made.put(error)
        self.behind = False

    def _make(self, saga_id: str, saga_type: str, route: Route, reply_to: str) -> Raw | None:
        """None where somebody could tell that it was made here, and perhaps in vain."""
        app = self._app
        if heard(app) or shaped(app) or not is_own(app.amqp.Producer, Producer, "publish"):
            return None
        return self._firsts.make(saga_id, saga_type, route, reply_to)
