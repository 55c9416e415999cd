"""The heartbeat of a Celery node: a row that says its main process is alive, so that a dead machine is noticed."""

from __future__ import annotations

import logging
import threading
import time

from sqlalchemy.pool import NullPool

from sagas.errors import HodeiError
from sagas.runtime import seen
from sagas.runtime.engine import Engine
from sagas.runtime.process import claimant
from sagas.store.database import connect_engine
from sagas.store.store import Store

log = logging.getLogger(__name__)

# After so many periods without a tick (and at least so many seconds) it is told that reconcile does not run.
MISSED_TICKS = 5
MISSED_SECONDS = 10.0


class Heartbeat:
    """A thread of the worker's main process. It is no proof of life for a child that hangs: leases are for that."""

    def __init__(self, engine: Engine, node: str, queues: list[str]) -> None:
        self._engine = engine
        self._by = claimant(node, engine.incarnation)
        self._queues = queues
        settings = engine.settings
        # A connection for each beat: one that stays open would be inherited by every child that is forked later.
        sql = connect_engine(settings.require_database(), schema=settings.db_schema, poolclass=NullPool)
        self._store = Store(sql)
        self._away_since: float | None = None
        self._stalled = False

    def start(self) -> None:
        threading.Thread(target=self._run, daemon=True, name="hodei-heartbeat").start()

    def beat(self) -> None:
        """Say it once; a database that is away is logged when it goes and when it comes."""
        try:
            idle = self._store.node_beat(self._by, self._queues)
        except HodeiError as error:
            if self._away_since is None:
                self._away_since = time.monotonic()
                log.warning("node %s is not heard: %s", self._by.node, error)
            return
        if self._away_since is not None:
            log.warning("node %s is heard again after %.0f s", self._by.node, time.monotonic() - self._away_since)
            self._away_since = None
        seen.note(self._engine.settings.home, "database")
        self._tell_stall(idle)

    def _tell_stall(self, idle: float) -> None:
        """Log once that ticks do not come through, and once that they do again; `idle` seconds without one."""
        stalled = idle > max(MISSED_TICKS * self._engine.settings.reconcile_every, MISSED_SECONDS)
        if stalled and not self._stalled:
            log.warning(
                "reconcile has not run for %.0f s: is the broker there, a beat, and a worker on queue control?", idle
            )
        elif self._stalled and not stalled:
            log.warning("reconcile runs again")
        self._stalled = stalled

    def _run(self) -> None:
        pause = threading.Event()
        while True:
            self.beat()
            pause.wait(self._engine.settings.node_beat)
