"""A `SagaOrchestrator` that starts nothing and remembers what it was asked for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from sagas.definition import Saga
from sagas.results import DomainEvent, SagaResult
from sagas.types import SagaId, SagaState


@dataclass(frozen=True)
class Started:
    """One saga that was asked for."""

    saga_id: SagaId
    saga_type: str
    payload: Mapping[str, Any]
    idempotency_key: str | None
    executed: bool
    shadow: bool = False


@dataclass
class RecordingOrchestrator:
    """Answers `outcome` to every `execute_saga`; one key gives one saga, as the real one does."""

    outcome: SagaState = SagaState.COMPLETED
    started: list[Started] = field(default_factory=list)
    events: list[DomainEvent] = field(default_factory=list)

    def execute_saga(
        self,
        saga: Saga,
        payload: Mapping[str, Any] | None = None,
        *,
        saga_id: SagaId | None = None,
        idempotency_key: str | None = None,
        correlation_id: str | None = None,
        actor: str | None = None,
    ) -> SagaResult:
        made = self._record(saga.name, payload or {}, idempotency_key, saga_id, executed=True)
        return SagaResult(made, self.outcome, len(saga.steps), 0, {})

    def start_saga(
        self,
        saga_type: str,
        payload: Mapping[str, Any],
        *,
        idempotency_key: str | None = None,
        correlation_id: str | None = None,
        actor: str | None = None,
        session: Any = None,
        shadow: bool = False,
    ) -> SagaId:
        return self._record(str(saga_type), payload, idempotency_key, None, executed=False, shadow=shadow)

    def record_step_event(self, event: DomainEvent, *, session: Any = None) -> None:
        self.events.append(event)

    def is_idempotent(self, saga_type: str, idempotency_key: str) -> bool:
        return self._find(saga_type, idempotency_key) is not None

    def _find(self, saga_type: str, idempotency_key: str | None) -> Started | None:
        for one in self.started:
            if idempotency_key is not None and (one.saga_type, one.idempotency_key) == (saga_type, idempotency_key):
                return one
        return None

    def _record(
        self,
        saga_type: str,
        payload: Mapping[str, Any],
        key: str | None,
        saga_id: SagaId | None,
        *,
        executed: bool,
        shadow: bool = False,
    ) -> SagaId:
        known = self._find(saga_type, key)
        if known is not None:
            return known.saga_id
        made = saga_id or SagaId.new()
        self.started.append(Started(made, saga_type, payload, key, executed, shadow))
        return made
