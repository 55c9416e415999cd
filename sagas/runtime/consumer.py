"""A worker's consumer that is back within two seconds of its broker (Celery's own waits up to thirty), and whose pool
knows whether it consumes the queue of compensations.
"""

from __future__ import annotations

import logging
from typing import Any

from celery.concurrency.asynpool import AsynPool
from celery.worker.consumer import Consumer
from celery.worker.state import maybe_shutdown

from sagas.runtime.continuation import GoesOn
from sagas.runtime.copies import on_redis
from sagas.runtime.engine import engine_of
from sagas.runtime.publish import COMPENSATIONS

log = logging.getLogger(__name__)


class PatientConsumer(Consumer):
    """Waits for the broker for ever, at most two seconds between two tries."""

    def ensure_connected(self, conn: Any) -> Any:
        """The connection, once there is one; a wish to stop ends the waiting."""

        def note(error: Exception, interval: float) -> None:
            log.warning("no broker (next try in %.1f s): %s", interval, error)

        conn.ensure_connection(note, None, 0.5, 0.5, 2, callback=maybe_shutdown)
        return conn

    def connection_for_read(self, heartbeat: int | None = None) -> Any:
        """On Redis by a channel of ours."""
        connection = self._by_ours(self.app.connection_for_read(heartbeat=heartbeat))
        while (ours := self._by_ours(self.ensure_connected(connection))) is not connection:
            # It has failed over to another URL, and kombu goes by what that one says.
            connection.release()
            connection = ours
        return connection

    def _by_ours(self, connection: Any) -> Any:
        """The same connection, not yet made, where this one is to a Redis and goes by kombu's own channel."""
        if not on_redis(connection):
            return connection
        from sagas.runtime.redis_channel import Transport

        if isinstance(connection.transport, Transport):
            return connection
        ours = connection.clone(transport=Transport)
        tasks = self.app.tasks.items()
        ours.transport.saga_tasks = frozenset(name for name, task in tasks if isinstance(task, GoesOn))
        # What it is called, in the log and by `celery inspect`.
        ours.transport_cls = "redis"
        return ours

    def create_task_handler(self, *args: Any, **options: Any) -> Any:
        """What takes a message: Celery's, and it is handed on at once."""
        take = super().create_task_handler(*args, **options)

        def handle(message: Any) -> None:
            take(message)
            self._hand_out()

        return handle

    def _hand_out(self) -> None:
        """Give what was taken to a process that has nothing to do. Celery's pool does so in the event loop's next turn,
        after the next message has been asked for: 0.1 ms later, where the machine is idle (decision 0021).
        """
        pool, write = getattr(self.pool, "_pool", None), getattr(self.hub, "consolidate_callback", None)
        if write is not None and isinstance(pool, AsynPool) and pool.outbound_buffer:
            idle = pool._all_inqueues - pool._active_writes - pool._busy_workers
            if idle:
                write(list(idle))

    def on_ready(self) -> None:
        """It consumes, for the first time or again."""
        super().on_ready()
        self._note()

    def add_task_queue(self, *args: Any, **options: Any) -> None:
        """`celery control add_consumer`."""
        super().add_task_queue(*args, **options)
        self._note()

    def cancel_task_queue(self, queue: str) -> None:
        """`celery control cancel_consumer`."""
        super().cancel_task_queue(queue)
        self._note()

    def _note(self) -> None:
        engine_of(self.app).consuming.note(bool(self.task_consumer.consuming_from(COMPENSATIONS)))
