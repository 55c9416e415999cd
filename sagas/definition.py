"""What a saga *is*: a name, a version and an ordered tuple of steps, by decorator or by class."""

from __future__ import annotations

import hashlib
import inspect
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Protocol, runtime_checkable

from sagas.context import SagaContext
from sagas.errors import DefinitionError
from sagas.policy import DEFAULT_COMPENSATION_RETRY, DEFAULT_RETRY, RetryPolicy
from sagas.types import RESERVED_SAGAS, RESERVED_STEPS, check_name

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


class PayloadModel(Protocol):
    """A class that checks payloads; pydantic's BaseModel fits, but pydantic is not required."""

    @classmethod
    def model_validate(cls, obj: Any) -> Any: ...

    @classmethod
    def model_json_schema(cls) -> dict[str, Any]: ...


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
    probe: StepFunction | None = field(default=None)

    def __post_init__(self) -> None:
        check_name("step", self.name, RESERVED_STEPS)
        _plain(self.name, "step", self.function)
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
        return self.undo is not None

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

        def register(undo: StepFunction) -> StepFunction:
            self.undo = _plain(self.name, "compensation", undo)
            self.undo_retry = retry or DEFAULT_COMPENSATION_RETRY
            self.undo_timeout = _seconds(timeout)
            return undo

        return register if function is None else register(function)

    def verify(self, function: StepFunction) -> StepFunction:
        """Decorator: asked when the outcome is unknown. A dict: done; None: it did not and will not happen."""
        self.probe = _plain(self.name, "verify", function)
        return function

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
        }


# What a class of one's own may carry as attributes, and the field of `Step` that takes it.
_OPTIONS = {
    "is_idempotent": "is_idempotent",
    "idempotent": "is_idempotent",
    "transactional": "transactional",
    "pivot": "pivot",
    "compensate_on_failure": "compensate_on_failure",
    "timeout": "timeout",
    "retry": "retry",
    "queue": "queue",
    "priority": "priority",
    "rate_limit": "rate_limit",
    "compensation_retry": "undo_retry",
    "compensation_timeout": "undo_timeout",
}


class Saga:
    """A definition: a name, a version, an ordered tuple of steps. Decorated order is step order.

    `timeout` (seconds or a timedelta) is the deadline of a whole saga; `payload` is an optional model class.
    """

    def __init__(
        self,
        name: str,
        *,
        version: int = 1,
        timeout: float | timedelta | None = None,
        payload: type[PayloadModel] | None = None,
    ) -> None:
        self.name = check_name("saga", str(name), RESERVED_SAGAS)
        if isinstance(version, bool) or not isinstance(version, int) or version < 1:
            raise DefinitionError(f"saga {name!r}: version={version!r}; use 1, 2, 3, ...")
        self.version = version
        self.timeout = _seconds(timeout)
        self.payload = payload
        self._steps: list[Step] = []

    @property
    def steps(self) -> tuple[Step, ...]:
        return tuple(self._steps)

    def step(
        self,
        function: StepFunction | None = None,
        *,
        name: str | None = None,
        idempotent: bool = True,
        transactional: bool = False,
        pivot: bool = False,
        compensate_on_failure: bool = False,
        timeout: float | timedelta | None = None,
        retry: RetryPolicy | None = None,
        queue: str | None = None,
        priority: int | None = None,
        rate_limit: str | None = None,
    ) -> Any:
        """Decorator: the function becomes the saga's next `Step`. `timeout` is its hard limit in seconds."""

        def register(body: StepFunction) -> Step:
            return self._append(
                Step(
                    name=name or body.__name__,
                    function=body,
                    is_idempotent=idempotent,
                    transactional=transactional,
                    pivot=pivot,
                    compensate_on_failure=compensate_on_failure,
                    timeout=_seconds(timeout),
                    retry=retry or DEFAULT_RETRY,
                    queue=queue or "steps",
                    priority=priority,
                    rate_limit=rate_limit,
                )
            )

        return register if function is None else register(function)

    def add(self, step: SagaStep, **options: Any) -> Step:
        """Append an object of a class of one's own; `options` are those of `step`, and win over its attributes."""
        if not isinstance(step, SagaStep):
            raise DefinitionError(f"saga {self.name!r}: {step!r} is no step; it needs a name and execute(ctx)")
        unknown = sorted(set(options) - set(_OPTIONS))
        if unknown:
            raise DefinitionError(f"saga {self.name!r}, step {step.name!r}: unknown option {unknown[0]!r}")
        fields: dict[str, Any] = {}
        for option, target in _OPTIONS.items():
            value = options.get(option, getattr(step, option, None))
            if value is not None:
                fields[target] = _seconds(value) if option.endswith("timeout") else value
        undo = getattr(step, "compensate", None)
        if undo is not None:
            _plain(step.name, "compensation", undo)
        return self._append(
            Step(name=step.name, function=step.execute, undo=undo, probe=getattr(step, "verify", None), **fields)
        )

    def get(self, step_name: str) -> Step:
        """The step of that name; KeyError if there is none."""
        for step in self._steps:
            if step.name == step_name:
                return step
        raise KeyError(step_name)

    def digest(self) -> str:
        """Fingerprint of what sagas in flight depend on: order, names and kinds; not time-outs or retries."""
        structure = [
            [s.name, s.is_idempotent, s.transactional, s.pivot, s.has_compensation, s.probe is not None]
            for s in self._steps
        ]
        return hashlib.sha256(json.dumps([self.name, self.version, structure]).encode()).hexdigest()[:32]

    def _append(self, step: Step) -> Step:
        if any(existing.name == step.name for existing in self._steps):
            raise DefinitionError(f"saga {self.name!r} has two steps called {step.name!r}")
        self._steps.append(step)
        return step

    def __repr__(self) -> str:
        return f"Saga({self.name!r}, version={self.version}, steps={[s.name for s in self._steps]})"


def _seconds(value: float | timedelta | None) -> float | None:
    if value is None:
        return None
    seconds = value.total_seconds() if isinstance(value, timedelta) else float(value)
    if seconds <= 0:
        raise DefinitionError(f"a time limit of {seconds} s: use more than 0")
    return seconds


def _plain(step: str, kind: str, function: StepFunction) -> StepFunction:
    if inspect.iscoroutinefunction(function):
        raise DefinitionError(f"{kind} of step {step!r} is async; write a plain function (Celery runs it in a process)")
    return function
