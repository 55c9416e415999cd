"""Side by side: several sagas of one message advance together, one commit for a step of each (decision 0015).

Who is claimed waits while the steps before it run. So only quick sagas do this, and only steps that may be lost
unbegun; when one of them takes long after all, a thread commits what is done and gives back what has not begun.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Sequence
from contextlib import nullcontext, suppress
from typing import TYPE_CHECKING, Any, NamedTuple, Self

from sagas.runtime.ended import Ended, Report
from sagas.runtime.follow_up import publish_next
from sagas.runtime.handover import Granted
from sagas.runtime.outcomes import Outcome
from sagas.runtime.publish import together
from sagas.types import SagaId

if TYPE_CHECKING:
    from sagas.runtime.engine import Engine

log = logging.getLogger(__name__)

LATE = 1.0
"""Seconds beyond a message's budget after which nobody waits any longer for the step at hand."""
UNBEGUN = Outcome("unbegun")


class Lane(NamedTuple):
    """One of the sagas: the task that is its turn to run, claimed."""

    name: str
    request: dict[str, Any]
    granted: Granted

    def unbegun(self) -> Ended:
        return Ended(*self.granted, UNBEGUN)


class Lanes:
    """Those of one message. Two threads ask: the one that runs them, and the one that comes when that one is late."""

    def __init__(self, engine: Engine, lanes: Sequence[Lane], until: float) -> None:
        """Nobody begins after `until` (`time.monotonic`)."""
        self._engine = engine
        self.until = until
        self.given_back = 0
        self._lock = threading.Lock()
        self._waiting = deque(lanes)
        self._ended: list[tuple[Lane, Ended]] = []
        self._apart: deque[tuple[Lane, Report | None]] = deque()
        """Who does not go on with the others; None: it goes back."""
        self._parted = False
        self._late = threading.Timer(max(until - time.monotonic(), 0.0) + LATE, self.part)
        self._late.daemon = True

    def __enter__(self) -> Self:
        try:
            self._late.start()
        except RuntimeError:  # no thread to be had
            self.part()
        return self

    def __exit__(self, *_: object) -> None:
        self._late.cancel()
        with suppress(RuntimeError):  # not even started
            self._late.join()
        self.part()
        # Whose row somebody holds: there is nobody left who would wait behind them.
        for lane, ended in self._ended:
            self.leave([(lane, self._engine.runner.commit_alone(ended))])

    def __bool__(self) -> bool:
        return bool(self._waiting)

    def take(self) -> Lane | None:
        """Whose turn it is; None when all have had theirs."""
        with self._lock:
            return self._waiting.popleft() if self._waiting else None

    def hold(self, lane: Lane, ended: Ended) -> None:
        """Its attempt is over: done, or not even begun. Committed with those of the others."""
        with self._lock:
            self._ended.append((lane, ended))

    def commit(self) -> list[tuple[Lane, Report]]:
        """One commit for all that are over; nothing more is claimed by it once they have parted. Whose row is held just
        now is asked for again with the next ones.
        """
        with self._lock:
            ended, self._ended = self._ended, []
            if self._parted:
                ended = [(lane, one._replace(next=None)) for lane, one in ended]
        reports = self._engine.runner.commit_all([one for _, one in ended])
        answered, held = [], []
        for (lane, one), report in zip(ended, reports, strict=True):
            if report is None:
                held.append((lane, one))
            else:
                answered.append((lane, report))
        with self._lock:
            self._ended += held
            self.given_back += sum(report.outcome is UNBEGUN for _, report in answered)
        return answered

    def go_on(self, lanes: Sequence[Lane], apart: Sequence[tuple[Lane, Report | None]]) -> None:
        """The next steps of these are claimed; those are to be seen to by themselves."""
        with self._lock:
            self._waiting.extend(lanes)
            self._apart.extend(apart)
        if self._parted:
            self.part()

    def take_apart(self) -> tuple[Lane, Report | None] | None:
        """The next one that goes on, or back, by itself."""
        with self._lock:
            return self._apart.popleft() if self._apart else None

    def part(self) -> None:
        """Nobody waits any longer: what is done is committed, what has not begun is given back, and each goes on by a
        message of its own.
        """
        with self._lock:
            self._parted = True
            self._ended += [(lane, lane.unbegun()) for lane in self._waiting]
            self._waiting.clear()
            apart, self._apart = self._apart, deque()
        reports = self.commit()
        self.leave([*reports, *((lane, report) for lane, report in apart if report is not None)])
        for lane, report in apart:
            if report is None:
                self.hint(lane.granted.saga_id)

    def leave(self, reports: Sequence[tuple[Lane, Report]]) -> None:
        """They go on by messages, or are at their ends."""
        due = [(lane, report) for lane, report in reports if report.route]
        with together(self._engine.app) if due else nullcontext() as producer:
            for lane, report in due:
                # As the step's own task would have published it; what has not begun comes from the task before.
                parent = "parent_id" if report.outcome is UNBEGUN else "id"
                publish_next(
                    self._engine, lane.granted.saga_id, report, producer=producer, parent_id=lane.request[parent]
                )
        for _, report in reports:
            if report.touched:
                self.hint(report.touched)

    def hint(self, saga_id: SagaId | str) -> None:
        """Publish what is due for it."""
        try:
            self._engine.publish(saga_id)
        except Exception:  # whatever it is: only a hint, and others wait
            log.warning("saga %s: what is due was not published; reconcile will", saga_id, exc_info=True)
