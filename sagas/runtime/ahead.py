"""A saga's first message, made while PostgreSQL writes its rows: Celery takes about as long for it (decision 0017).

It is put into its queue when the rows are there, never before. On Redis alone.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping, Sequence
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
from sagas.runtime.maker import Maker, Raw
from sagas.runtime.publish import publish_route, send_route
from sagas.runtime.redis_line import Line
from sagas.runtime.stencil import heard

log = logging.getLogger(__name__)

Route = Sequence[Mapping[str, Any]]

Made = SimpleQueue["Raw | BaseException | None"]
"""Where a message will be."""

PATIENCE = 1.0
"""Seconds that a start waits for a message which takes longer than its rows: by then something is wrong."""


class Begun(NamedTuple):
    """One that is being made, for a saga that is expected to have this route."""

    saga_id: str
    route: Route
    made: Made
    desk: _Desk


class Ahead:
    """Of one client."""

    def __init__(self, app: Celery) -> None:
        self._app = app
        self._routes: dict[str, tuple[Route, bool]] = {}
        """Of each type, that of the last start, and whether the one before had the same: a payload may name queues."""
        self._given_up: set[str] = set()
        self._desks: dict[int, _Desk | None] = {}
        """By process: a fork does not have the other one's thread."""

    def begin(self, saga_id: str, saga_type: str) -> Begun | None:
        """Right before the statement that starts this saga; None where its message is Celery's to make afterwards."""
        route, again = self._routes.get(saga_type, ((), False))
        if not again or self._app.current_worker_task is not None:
            return None
        pid = os.getpid()
        desk = self._desks[pid] if pid in self._desks else self._open(pid)
        if desk is None or desk.closed:
            return None
        return Begun(saga_id, route, desk.make(saga_id, saga_type, route), desk)

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
        known, _ = self._routes.get(saga_type, ((), False))
        expected = begun is not None and (saga_id, route) == (begun.saga_id, begun.route)
        if (begun and expected and self._put(begun, saga_type)) or publish_route(
            self._app, saga_id, saga_type, route, undo=False
        ):
            again = bool(route) and route == known and saga_type not in self._given_up
            self._routes[saga_type] = route, again
        else:
            # Who waits in vain for a broker waits once, the way Celery does.
            self._routes.pop(saga_type, None)

    def _put(self, begun: Begun, saga_type: str) -> bool:
        """Whether Redis has it: a hint that comes twice does no harm."""
        made: Raw | BaseException | None
        try:
            made = begun.made.get(timeout=PATIENCE)
        except Empty as late:
            made = late
        if isinstance(made, BaseException):
            log.warning("the first messages of %s are made after the rows from now on", saga_type, exc_info=made)
            self._given_up.add(saga_type)
            return False
        if made is None:
            return False
        try:
            return begun.desk.put(made)
        except Exception as error:  # noqa: BLE001 - kombu's own way tries again, and says so if it has to give up
            log.info("saga %s: its message is published once more (%s)", begun.saga_id, error)
            return False


class _Desk:
    """A thread that makes messages by Celery's own code, and sends none; those who ask send them from here."""

    closed = False

    def __init__(self, app: Celery) -> None:
        self._app = app
        self._maker = Maker(app)
        self._asked: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._lines: list[Line] = []
        """Those that nobody uses just now: as many as threads have put messages at once."""

    def open(self) -> None:
        Thread(target=self._work, name="hodei-ahead", daemon=True).start()

    def close(self) -> None:
        self.closed = True
        self._asked.put(None)
        while self._lines:
            self._lines.pop().hang_up()

    def make(self, saga_id: str, saga_type: str, route: Route) -> Made:
        """Where it will be: what Celery makes in the caller's context."""
        made: Made = SimpleQueue()
        asked = (saga_id, saga_type, route, self._app.thread_oid)
        self._asked.put(partial(copy_context().run, self._answer, made, asked))
        return made

    def put(self, message: Raw) -> bool:
        """To where Celery's own messages go; whether that is a Redis still."""
        try:
            line = self._lines.pop()
        except IndexError:
            timeout = self._app.conf.broker_pool_acquire_timeout
            with self._app.pool.acquire(block=True, timeout=timeout) as connection:
                channel = connection.default_channel
                if not isinstance(channel, redis.Channel):  # it has failed over to another broker
                    return False
                line = Line(channel)
        try:
            line.put([message])
        except BaseException:  # that was this broker, or it is full
            line.hang_up()
            raise
        if self.closed:
            line.hang_up()
        else:
            self._lines.append(line)
        return True

    def _work(self) -> None:
        while (asked := self._asked.get()) is not None:
            asked()
            del asked  # while it waits it keeps nobody's context

    def _answer(self, made: Made, asked: tuple[str, str, Route, str]) -> None:
        try:
            made.put(self._make(*asked))
        except BaseException as error:  # noqa: BLE001 - for whoever has asked
            made.put(error)

    def _make(self, saga_id: str, saga_type: str, route: Route, reply_to: str) -> Raw | None:
        """None where somebody could tell that it was made here, and perhaps in vain."""
        app = self._app
        if heard(app) or shaped(app) or not is_own(app.amqp.Producer, Producer, "publish"):
            return None
        send = partial(send_route, app, saga_id, saga_type, route, undo=False, reply_to=reply_to)
        return self._maker.make(route[0]["queue"], send)
