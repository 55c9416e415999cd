"""What a message may go on to without anybody seeing it: from the definitions and the tasks alone (decision 0009)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from sagas.definition import Saga
from sagas.errors import UnknownSaga
from sagas.runtime.limits import CLAIM_PATIENCE
from sagas.runtime.publish import saga_and_step, task_name
from sagas.step import Step

if TYPE_CHECKING:
    from celery import Task

    from sagas.runtime.engine import Engine


class Successor(NamedTuple):
    """A step that could have run by the same message."""

    step: str
    seconds: float
    """Of the message's hard limit that it needs."""
    waits: bool
    """Whether it may be claimed to wait for its turn."""


class Successors:
    """Of one engine; looked up once each."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._after: dict[tuple[str, int, str, bool], tuple[Successor, ...]] = {}
        self._firsts: dict[str, float | None] = {}

    def after(self, saga_type: str, version: int, step_name: str, undo: bool) -> tuple[Successor, ...]:
        """Those of this step, or of its undo; none where this worker lacks the code."""
        key = (saga_type, version, step_name, undo)
        if key not in self._after:
            self._after[key] = self._find(*key)
        return self._after[key]

    def first(self, name: str) -> float | None:
        """Seconds that the first step of a saga which a message brings needs; None where it needs a message."""
        if name not in self._firsts:
            known = self.known(*saga_and_step(name))
            task = self.task(*known, False, known[1].queue, known[1].priority) if known else None
            self._firsts[name] = needed(task) if task else None
        return self._firsts[name]

    def known(self, saga_type: str, step_name: str, version: int | None = None) -> tuple[Saga, Step] | None:
        """The saga, its newest version by default, and its step; None if this worker lacks the code."""
        registry = self._engine.registry
        try:
            saga = registry.latest(saga_type) if version is None else registry.get(saga_type, version)
            return saga, saga.get(step_name)
        except (UnknownSaga, KeyError):
            return None

    def task(self, saga: Saga, step: Step, undo: bool, queue: str, priority: int | None) -> Any:
        """The step's task, if a message of that queue and priority could run it unseen; or None."""
        task = self._engine.app.tasks.get(task_name(saga.name, step.name, undo))
        own = step.undo_queue if undo else step.queue
        if task is None or not task.time_limit or task.rate_limit or (own, step.priority) != (queue, priority):
            return None
        return task if saga.continuation and step.continuation else None

    def _find(self, saga_type: str, version: int, step_name: str, undo: bool) -> tuple[Successor, ...]:
        known = self.known(saga_type, step_name, version)
        if known is None:
            return ()
        saga, step = known
        queue = step.undo_queue if undo else step.queue
        return tuple(
            Successor(other.name, needed(task), may_wait(other))
            for other in _neighbours(saga, step, undo)
            if (task := self.task(saga, other, undo, queue, step.priority))
        )


def needed(task: Task) -> float:
    """Seconds of a message's hard limit that this step of it and its commit may take: all but patience at its claim."""
    return float(task.time_limit) - CLAIM_PATIENCE


def may_wait(step: Step) -> bool:
    """Whether this step may be claimed before its turn: if its process dies that counts as an attempt of it, which may
    have acted. That the attempt is not its last one is asked of its row (`saga_claim_many`, `saga_commit_many`).
    """
    plain = step.child is None and not step.transactional and not step.pivot and not step.compensate_on_failure
    return step.is_idempotent and plain


def _neighbours(saga: Saga, step: Step, undo: bool) -> list[Step]:
    """What may come next in that direction."""
    if undo:
        return [one for one in saga.steps if one.undo is not None and one is not step]
    after = saga.steps.index(step) + 1
    return list(saga.steps[after : after + 1])
