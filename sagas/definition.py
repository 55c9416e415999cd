"""What a saga *is*: a name, a version and an ordered tuple of steps, by decorator or by class."""

from __future__ import annotations

import hashlib
import json
from datetime import timedelta
from typing import Any, Protocol

from sagas.errors import DefinitionError, InvalidPayload
from sagas.policy import DEFAULT_RETRY, RetryPolicy
from sagas.step import SagaStep, Step, StepFunction, in_seconds, plain_function
from sagas.types import RESERVED_SAGAS, check_name


class PayloadModel(Protocol):
    """A class that checks payloads; pydantic's BaseModel fits, but pydantic is not required."""

    @classmethod
    def model_validate(cls, obj: Any) -> Any: ...

    @classmethod
    def model_json_schema(cls) -> dict[str, Any]: ...


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
    "continuation": "continuation",
    "compensation_retry": "undo_retry",
    "compensation_timeout": "undo_timeout",
}


class Saga:
    """A definition: a name, a version, an ordered tuple of steps. Decorated order is step order.

    `timeout` (seconds or a timedelta) is the deadline of a whole saga; `payload` is an optional model class.
    `continuation=False`: each of its steps is run by a message of its own.
    """

    def __init__(
        self,
        name: str,
        *,
        version: int = 1,
        timeout: float | timedelta | None = None,
        payload: type[PayloadModel] | None = None,
        continuation: bool = True,
    ) -> None:
        self.name = check_name("saga", str(name), RESERVED_SAGAS)
        if isinstance(version, bool) or not isinstance(version, int) or version < 1:
            raise DefinitionError(f"saga {name!r}: version={version!r}; use 1, 2, 3, ...")
        self.version = version
        self.timeout = in_seconds(timeout)
        self.payload = payload
        self.continuation = continuation
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
        continuation: bool = True,
    ) -> Any:
        """Decorator: the function becomes the saga's next `Step`. `timeout` is its hard limit in seconds.

        `continuation=False`: it always waits for a message of its own.
        """

        def register(body: StepFunction) -> Step:
            return self._append(
                Step(
                    name=name or body.__name__,
                    function=body,
                    is_idempotent=idempotent,
                    transactional=transactional,
                    pivot=pivot,
                    compensate_on_failure=compensate_on_failure,
                    timeout=in_seconds(timeout),
                    retry=retry or DEFAULT_RETRY,
                    queue=queue or "steps",
                    priority=priority,
                    rate_limit=rate_limit,
                    continuation=continuation,
                )
            )

        return register if function is None else register(function)

    def child(
        self,
        name: str,
        saga_type: str,
        payload: StepFunction | None = None,
        *,
        timeout: float | timedelta | None = None,
        retry: RetryPolicy | None = None,
        queue: str | None = None,
    ) -> Step:
        """A step that is another saga (the latest version of `saga_type`): this one waits as a row, no worker is held.

        `payload(ctx)` gives the dict that the child is started with; `timeout` and `retry` are those of that call. The
        output is `{"saga_id", "outputs"}`. A child that does not end COMPLETED fails the step for good; to undo the
        step is to undo the child. If the child has a pivot, this step is one.
        """
        return self._append(
            Step(
                name=name,
                function=payload or (lambda ctx: {}),
                timeout=in_seconds(timeout),
                retry=retry or DEFAULT_RETRY,
                queue=queue or "steps",
                child=str(saga_type),
            )
        )

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
                fields[target] = in_seconds(value) if option.endswith("timeout") else value
        undo = getattr(step, "compensate", None)
        if undo is not None:
            plain_function(step.name, "compensation", undo)
        return self._append(
            Step(name=step.name, function=step.execute, undo=undo, probe=getattr(step, "verify", None), **fields)
        )

    def get(self, step_name: str) -> Step:
        """The step of that name; KeyError if there is none."""
        for step in self._steps:
            if step.name == step_name:
                return step
        raise KeyError(step_name)

    def check_payload(self, payload: Any) -> None:
        """Raises InvalidPayload if the payload does not fit the declared model."""
        if self.payload is None:
            return
        try:
            self.payload.model_validate(payload)
        except ValueError as error:
            lines = "; ".join(line.strip() for line in str(error).splitlines() if line.strip())
            raise InvalidPayload(
                f"the payload of saga {self.name!r} does not fit {self.payload.__name__}: {lines}"
            ) from None

    def digest(self) -> str:
        """Fingerprint of what sagas in flight depend on: order, names and kinds; not time-outs or retries."""
        structure = [
            [s.name, s.is_idempotent, s.transactional, s.pivot, s.has_compensation, s.probe is not None]
            + ([s.child] if s.child else [])
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
