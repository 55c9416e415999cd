"""Side by side: several sagas of one message advance together, one commit for a step of each (decision 0015).

Who is claimed waits while the steps before it run. So only quick sagas do this, and only steps that may be lost
unbegun; when one of them takes long after all, a thread commits what is done and gives back what has not begun.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple, Self

from celery.app.task import Context

from sagas.errors import StorageUnavailable
from sagas.runtime.follow_up import follow_up
from sagas.runtime.handover import Granted
from sagas.runtime.runner import Ended, Report
from sagas.step import Step
from sagas.types import SagaId

if TYPE_CHECKING:
    from sagas.runtime.engine import Engine

log = logging.getLogger(__name__)

LATE = 1.0
"""Seconds after which nobody waits any longer for the step at hand."""


def may_wait(step: Step) -> bool:
    """Whether this step may be claimed before its turn. If its process dies that was an attempt."""
    return step.is_idempotent and not step.transactional and step.child is None and step.retry.max_attempts > 1


class Lane(NamedTuple):
    """One of the sagas: the task that is its turn to run, claimed."""

    saga_id: SagaId
    name: str
    request: dict[str, Any]
    granted: Granted


class Lanes:
    """Those of one message. Two threads ask: the one that runs them, and the one that comes when that one is late."""

    def __init__(self, engine: Engine, lanes: Sequence[Lane]) -> None:
        self._engine = engine
        self._lock = threading.Lock()
        self._waiting = deque(lanes)
        self._held: list[tuple[Lane, Ended]] = []
        self._timer = threading.Timer(LATE, self.part)
        self._timer.daemon = True

    def __enter__(self) -> Self:
        self._timer.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._timer.cancel()
        self.part()

    def __bool__(self) -> bool:
        return bool(self._waiting)

    def add(self, lane: Lane) -> None:
        with self._lock:
            self._waiting.append(lane)

    def take(self) -> Lane | None:
        """Whose turn it is; None when all have had theirs."""
        with self._lock:
            return self._waiting.popleft() if self._waiting else None

    def hold(self, lane: Lane, ended: Ended) -> None:
        """Its step is done; committed with those of the others."""
        with self._lock:
            self._held.append((lane, ended))

    def commit(self) -> Iterator[tuple[Lane, Report]]:
        """One commit for all whose step is done."""
        with self._lock:
            held, self._held = self._held, []
        yield from self._commit(held)

    def part(self, *further: Lane) -> None:
        """Nobody waits any longer: what is done is committed, and each goes on by a message of its own."""
        with self._lock:
            waiting, self._waiting = [*further, *self._waiting], deque()
            held, self._held = self._held, []
        for lane, report in self._commit([(lane, ended._replace(next=None)) for lane, ended in held]):
            self.leave(lane, report)
        for lane in waiting:
            with _logged(lane.saga_id):
                self.leave(lane, self._engine.runner.give_back(lane.saga_id, lane.granted))

    def leave(self, lane: Lane, report: Report) -> None:
        """It goes on by a message, or is at its end."""
        follow_up(self._engine, lane.saga_id, report, False, Context(lane.request))

    def _commit(self, held: Sequence[tuple[Lane, Ended]]) -> Iterator[tuple[Lane, Report]]:
        if not held:
            return
        reports: Sequence[Report | None] = []
        with _logged(held[0][0].saga_id):
            reports = self._engine.runner.commit_all([ended for _, ended in held])
        for (lane, _), report in zip(held, reports, strict=False):
            if report is not None:
                yield lane, report


@contextmanager
def _logged(saga_id: SagaId) -> Iterator[None]:
    """PostgreSQL has been away for longer than anybody's patience: their leases have run out."""
    try:
        yield
    except StorageUnavailable as error:
        log.error("saga %s and others of its message: not recorded, %s", saga_id, error)
