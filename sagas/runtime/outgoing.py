"""The next message of a chain: made by the process that has done the step, sent by its worker's main process with the
acknowledgement of the message at hand, in one round trip (decision 0016). On Redis alone; elsewhere Celery sends it.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

from celery import Celery, Task
from kombu.utils.imports import symbol_by_name

from sagas.runtime.copies import Copies, Next, is_own, on_redis

if TYPE_CHECKING:
    from sagas.runtime.maker import Raw

log = logging.getLogger(__name__)

OURS = "sagas.runtime.consumer:PatientConsumer"
"""The consumer whose channel sends what it is given."""


class Outgoing:
    """Of one app."""

    def __init__(self, app: Celery) -> None:
        self._app = app
        self._copies = Copies(app)

    @cached_property
    def _is_ours(self) -> bool:
        """Whether a worker's main process would send what it is given, and to where this process would."""
        app = self._app
        reads, writes = app.connection_for_read(), app.connection_for_write()
        same = on_redis(reads) and reads.as_uri() == writes.as_uri()
        return same and issubclass(symbol_by_name(app.conf.worker_consumer), symbol_by_name(OURS))

    def _is_plain(self, name: str) -> bool:
        """Whether Celery's tracer would add nothing of its own or the user's."""
        task = self._app.tasks.get(name)
        kind = Task if task is None else type(task)
        own = all(is_own(kind, Task, method) for method in ("apply_async", "shadow_name"))
        return own and not self._app.conf.task_inherit_parent_priority

    def following(self, request: Any) -> Raw | None:
        """What Celery would send when the task of this request has succeeded: the next one of its chain, one of ours.
        None if Celery is to do that itself.
        """
        if not self._is_ours or not self._is_plain(request.chain[-1]["task"]):
            return None
        return self._copies.make(Next(request.id, request.root_id, request.chain, self._app.thread_oid))


def send(app: Celery, channel: Any, outgoing: Sequence[Raw]) -> None:
    """In a worker's main process, on the channel that brought the message they come from."""
    from sagas.runtime.redis_channel import Channel
    from sagas.runtime.redis_line import put

    try:
        if isinstance(channel, Channel) and not channel.closed:
            channel.send(outgoing)
            return
        with app.pool.acquire(block=True) as connection:
            connection.ensure_connection(max_retries=1)  # the event loop waits
            put(connection.default_channel, outgoing)
    except Exception as error:  # noqa: BLE001 - only hints
        log.warning("messages were not published (%s); reconcile will", error)
