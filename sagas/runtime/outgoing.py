"""The next message of a chain: made by the process that has done the step, sent by its worker's main process with the
acknowledgement of the message at hand, in one round trip (decision 0016). On Redis alone; elsewhere Celery sends it.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

from celery import Celery
from kombu.utils.imports import symbol_by_name

from sagas.runtime.copies import Copies, Next, on_redis

if TYPE_CHECKING:
    from sagas.runtime.redis_channel import Raw

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

    def following(self, request: Any) -> list[Raw] | None:
        """What Celery would send when the task of this request has succeeded: the next one of its chain, one of ours.
        None if Celery is to do that itself.
        """
        # What a task inherits its tracer alone knows.
        if not self._is_ours or self._app.conf.task_inherit_parent_priority:
            return None
        return self._copies.make(Next(request.id, request.root_id, request.chain))


def send(app: Celery, channel: Any, outgoing: Sequence[Raw]) -> None:
    """In a worker's main process, on the channel that brought the message they come from."""
    from sagas.runtime.redis_channel import Channel, put

    try:
        if isinstance(channel, Channel) and not channel.closed:
            channel.send(outgoing)
            return
        with app.pool.acquire(block=True) as connection:
            put(connection.default_channel, outgoing)
    except Exception as error:  # noqa: BLE001 - only hints
        log.warning("messages were not published (%s); reconcile will", error)
