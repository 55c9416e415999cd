"""What the library asks of whoever drives sagas from Python code, as a Protocol."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from sagas.definition import Saga
from sagas.results import DomainEvent, SagaResult
from sagas.types import SagaId


class SagaOrchestrator(Protocol):
    """Runs sagas and records events; `sagas.runtime.orchestrator` is the real one."""

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
        """Run a saga to its end in the calling process, durably: another process may finish it if this one dies."""
        ...

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
        """Start a saga that Celery workers run; with `session` it commits with the caller's own rows.

        A `shadow` saga runs without an effect outside: its steps get other ports.
        """
        ...

    def record_step_event(self, event: DomainEvent, *, session: Any = None) -> None:
        """Append one event to the outbox, in the caller's transaction if a session is given."""
        ...

    def is_idempotent(self, saga_type: str, idempotency_key: str) -> bool:
        """Whether a saga with that key exists, so that starting it again gives the same one."""
        ...
