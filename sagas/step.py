"""One named unit of a saga: what it does, how it is undone and verified, and how it may be run."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Protocol, runtime_checkable

from sagas.context import SagaContext
from sagas.errors import DefinitionError
from sagas.policy import DEFAULT_COMPENSATION_RETRY, DEFAULT_RETRY, RetryPolicy
from sagas.types import RESERVED_STEPS, check_name

StepFunction = Callable[[SagaContext], Any]


@runtime_checkable
class SagaStep(Protocol):
    """A step as an object of a class of one's own, for `Saga.add`.

    `compensate(ctx)` and `verify(ctx)` are optional methods, and every option of `Saga.step` (`idempotent`,
    `pivot`, `timeout`, `retry`, ...) is read from an attribute of the same name where there is one.
    """

    @property
    def name(self) -> str: ...

    def execute(self, ctx: SagaContext) -> Any: ...


@dataclass
class Step:
    """One named unit of a saga. Calling it calls its function, so that a unit test needs no engine."""

    name: str
    function: StepFunction
    is_idempotent: bool = True
    transactional: bool = False
    pivot: bool = False
    compensate_on_failure: bool = False
    timeout: float | None = None
    retry: RetryPolicy = DEFAULT_RETRY
    queue: str = "steps"
    priority: int | None = None
    rate_limit: str | None = None
    undo: StepFunction | None = None
    undo_retry: RetryPolicy = DEFAULT_COMPENSATION_RETRY
    undo_timeout: float | None = None
    probe: StepFunction | None = None
    continuation: bool = True
    """Whether the message of the step before it may go on to this one, in the same process."""
    child: str | None = None
    """The saga that this step is; its function then makes that saga's payload."""

    def __post_init__(self) -> None:
        check_name("step", self.name, RESERVED_STEPS)
        plain_function(self.name, "step", self.function)
        if self.transactional and not self.is_idempotent:
            raise DefinitionError(
                f"step {self.name!r}: transactional=True is exactly-once already; drop idempotent=False"
            )

    def __call__(self, ctx: SagaContext) -> Any:
        return self.function(ctx)

    def execute(self, ctx: SagaContext) -> Any:
        return self.function(ctx)

    def compensate(self, ctx: SagaContext) -> Any:
        """Undo this step; a step without a compensation has nothing to undo."""
        return self.undo(ctx) if self.undo else None

    @property
    def has_compensation(self) -> bool:
        return self.undo is not None or self.child is not None

    @property
    def undo_queue(self) -> str:
        """Rollback has its own queue, but what is bound to a place (`provider.{host}`) is undone there."""
        return self.queue if "{" in self.queue else "compensations"

    def compensation(
        self,
        function: StepFunction | None = None,
        *,
        retry: RetryPolicy | None = None,
        timeout: float | timedelta | None = None,
    ) -> Any:
        """Decorator: this function undoes the step. It must be safe when nothing happened and when called twice."""

        self._refuse_for_child("compensation")

        def register(undo: StepFunction) -> StepFunction:
            self.undo = plain_function(self.name, "compensation", undo)
            self.undo_retry = retry or DEFAULT_COMPENSATION_RETRY
            self.undo_timeout = in_seconds(timeout)
            return undo

        return register if function is None else register(function)

    def verify(self, function: StepFunction) -> StepFunction:
        """Decorator: asked when the outcome is unknown. A dict: done; None: it did not and will not happen."""
        self._refuse_for_child("verify")
        self.probe = plain_function(self.name, "verify", function)
        return function

    def _refuse_for_child(self, kind: str) -> None:
        if self.child is not None:
            raise DefinitionError(f"step {self.name!r} is the saga {self.child!r}, which has a {kind} of its own")

    def plan(self, default_timeout: float) -> dict[str, Any]:
        """The row's share of the definition: what the store must know without the code."""
        timeout = self.timeout or default_timeout
        return {
            "name": self.name,
            "idempotent": self.is_idempotent,
            "transactional": self.transactional,
            "pivot": self.pivot,
            "compensate_on_failure": self.compensate_on_failure,
            "has_compensation": self.has_compensation,
            "has_verify": self.probe is not None,
            "timeout_s": timeout,
            "max_attempts": self.retry.max_attempts,
            "queue": self.queue,
            "priority": self.priority,
            "undo_timeout_s": self.undo_timeout or timeout,
            "undo_max_attempts": self.undo_retry.max_attempts,
            "undo_queue": self.undo_queue,
            "child": self.child,
        }


def in_seconds(value: float | timedelta | None) -> float | None:
    if value is None:
        return None
    seconds = value.total_seconds() if isinstance(value, timedelta) else float(value)
    if seconds <= 0:
        raise DefinitionError(f"a time limit of {seconds} s: use more than 0")
    return seconds


def plain_function(step: str, kind: str, function: StepFunction) -> StepFunction:
    if inspect.iscoroutinefunction(function):
        raise DefinitionError(f"{kind} of step {step!r} is async; write a plain function (Celery runs it in a process)")
    return function
