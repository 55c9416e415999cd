"""What comes back from the engine: results, statuses, stored rows and events, as plain values."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sagas.types import SagaId, SagaState, SagaStepId, StepState


@dataclass(frozen=True)
class StepStatus:
    name: str
    state: StepState
    attempt: int = 0
    error: str | None = None


@dataclass(frozen=True)
class SagaStatus:
    """Where a saga stands now. `current_step` is None before the first and after the last step."""

    state: SagaState
    current_step: str | None
    steps: tuple[StepStatus, ...]
    error: str | None = None
    saga_id: SagaId | None = None
    saga_type: str | None = None


@dataclass(frozen=True)
class SagaResult:
    """How a saga ended. `steps_executed` counts the failed step too."""

    saga_id: SagaId
    outcome: SagaState
    steps_executed: int
    compensations_executed: int
    outputs: dict[str, Any]
    error: str | None = None


@dataclass(frozen=True)
class SagaInstance:
    """One row of `saga_instances`."""

    saga_id: SagaId
    saga_type: str
    version: int
    state: SagaState
    correlation_id: str | None
    actor: str | None
    idempotency_key: str | None
    payload: Any
    metadata: dict[str, Any]
    current_step: int
    started_at: datetime
    completed_at: datetime | None
    wake_at: datetime | None
    deadline: datetime | None
    error: str | None


@dataclass(frozen=True)
class SagaStepData:
    """One row of `saga_steps`."""

    step_id: SagaStepId
    saga_id: SagaId
    step_name: str
    step_order: int
    state: StepState = StepState.PENDING
    attempt: int = 0
    input_data: Any = None
    output_data: Any = None
    compensation_data: Any = None
    effect_possible: bool = False
    error: str | None = None
    started_at: datetime | None = None
    completed_at: datetime | None = None


@dataclass(frozen=True)
class DomainEvent:
    """One append-only row of `saga_events`; `stream` orders it among its like (`saga:<id>`, `job:<id>`, ...)."""

    event_type: str
    stream: str
    payload: dict[str, Any] = field(default_factory=dict)
    saga_id: SagaId | None = None
    correlation_id: str | None = None
    step_name: str | None = None
    actor: str | None = None
    occurred_at: datetime | None = None
    event_id: int | None = None
