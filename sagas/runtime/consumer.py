"""A worker's consumer that is back within two seconds of its broker (Celery's own waits up to thirty)."""

from __future__ import annotations

import logging
from typing import Any

from celery.worker.consumer import Consumer
from celery.worker.state import maybe_shutdown

log = logging.getLogger(__name__)


class PatientConsumer(Consumer):
    """Waits for the broker for ever, at most two seconds between two tries."""

    def ensure_connected(self, conn: Any) -> Any:
        """The connection, once there is one; a wish to stop ends the waiting."""

        def note(error: Exception, interval: float) -> None:
            log.warning("no broker (next try in %.1f s): %s", interval, error)

        conn.ensure_connection(note, None, 0.5, 0.5, 2, callback=maybe_shutdown)
        return conn
