"""Sagas driven from Python code: started for the workers, or run to their end in the calling process."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from sagas.definition import Saga
from sagas.errors import SagaNotFound
from sagas.results import DomainEvent, SagaResult
from sagas.runtime.process import claimant
from sagas.runtime.publish import publish_route
from sagas.store.definitions import register
from sagas.store.requests import StartRequest
from sagas.types import SagaId

if TYPE_CHECKING:
    from sagas.runtime.engine import Engine

# Where the saga stands: its next step or undo, which of the two, and for how many seconds it is not due yet.
_POSITION = sa.text("""
    SELECT s.state IN ('COMPLETED', 'COMPENSATED', 'CANCELLED', 'FAILED') AS ended,
           s.state = 'COMPENSATING' AS undo, s.live_claims, coalesce(u.step_name, t.step_name) AS step,
           c.child_saga_id AS child,
           extract(epoch FROM greatest(t.not_before, u.not_before, s.quiet_at) - saga_now())::float AS pause
    FROM saga_instances s
    LEFT JOIN saga_steps t ON s.state <> 'COMPENSATING' AND t.saga_id = s.saga_id AND t.step_order = s.current_step
    LEFT JOIN LATERAL saga_next_undo(s.saga_id) u ON s.state = 'COMPENSATING'
    LEFT JOIN saga_steps c ON c.saga_id = s.saga_id AND c.child_saga_id IS NOT NULL
        AND c.state IN ('WAITING', 'COMPENSATING') AND s.paused_at IS NULL
    WHERE s.saga_id = :saga_id
""")


class Orchestrator:
    """The engine's `SagaOrchestrator`."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

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
        """Run a saga to its end here, by the same claim, run and commit as the workers, who may help or take over."""
        engine = self._engine
        engine.registry.add(saga)
        register(engine.sql, [saga], engine.settings)
        started = self._start(
            StartRequest(
                saga_type=saga.name,
                payload=payload or {},
                idempotency_key=idempotency_key,
                correlation_id=correlation_id,
                actor=actor,
                saga_id=saga_id,
                version=saga.version,
                published=True,
            )
        )
        return self.drive(SagaId(started["saga_id"]))

    def drive(self, saga_id: SagaId) -> SagaResult:
        """Run an existing saga to its end in the calling process. Raises SagaNotFound."""
        while True:
            with self._engine.sql.connect() as connection:
                at = connection.execute(_POSITION, {"saga_id": str(saga_id)}).mappings().first()
            if at is None:
                raise SagaNotFound(f"there is no saga {saga_id}")
            if at["ended"]:
                result = self._engine.repository.result(saga_id)
                assert result is not None
                return result
            pause = at["pause"] or 0.0
            if at["child"]:
                self.drive(SagaId(at["child"]))
                self._engine.store.hint(saga_id)  # its end moves this one, but for what is to be quiet first
            if pause > 0 or (at["live_claims"] and not at["child"]):
                time.sleep(min(max(pause, 0.05), 1.0))
            elif not at["child"]:
                self._engine.runner.run(saga_id, at["step"], undo=at["undo"], by=claimant())

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
        """Start a saga for the workers; with `session` in the caller's transaction (reconcile publishes it then).

        A `shadow` saga's steps get the engine's `shadow_ports`.
        """
        request = StartRequest(
            saga_type=str(saga_type),
            payload=payload,
            idempotency_key=idempotency_key,
            correlation_id=correlation_id,
            actor=actor,
            published=session is None,
            shadow=shadow,
        )
        answer = self._start(request, session=session)
        if session is None:
            publish_route(self._engine.app, answer["saga_id"], request.saga_type, answer["route"], undo=False)
        return SagaId(answer["saga_id"])

    def _start(self, request: StartRequest, session: Any = None) -> dict[str, Any]:
        self._engine.check_payload(request.saga_type, request.payload)
        return self._engine.store.start(request, session=session)

    def record_step_event(self, event: DomainEvent, *, session: Any = None) -> None:
        """The one way to publish an event: a row of the outbox, in the caller's transaction if a session is given."""
        self._engine.store.record_event(event, session=session)

    def is_idempotent(self, saga_type: str, idempotency_key: str) -> bool:
        """Whether a saga with that key exists, so that starting it again gives the same one."""
        return self._engine.repository.find_by_key(saga_type, idempotency_key) is not None
