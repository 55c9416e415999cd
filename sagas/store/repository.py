"""Reading sagas back, and the few writes that are not the engine's."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.exc import DBAPIError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from sagas.context import SagaContext
from sagas.errors import SagaNotFound, StorageUnavailable
from sagas.results import DomainEvent, SagaInstance, SagaResult, SagaStatus, SagaStepData, StepStatus
from sagas.store.requests import StartRequest
from sagas.store.schema import saga_events, saga_instances, saga_steps
from sagas.store.store import Store
from sagas.store.wire import first_line
from sagas.types import SagaId, SagaState, SagaStepId, StepState

Id = SagaId | UUID | str


class SagaRepository:
    """Sagas, steps and events as plain values. Every method is one transaction of its own."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._engine = store.engine

    def save(self, context: SagaContext) -> None:
        """Start the saga of this context under its own id, if there is none; an existing saga is left as it is."""
        self._store.start(
            StartRequest(
                saga_type=str(context.saga_type),
                payload=context.payload,
                correlation_id=context.correlation_id,
                actor=context.actor,
                saga_id=context.saga_id,
                metadata=context.metadata,
            )
        )

    def find_by_id(self, saga_id: Id) -> SagaInstance | None:
        found = self._find(saga_instances.c.saga_id == UUID(str(saga_id)))
        return found[0] if found else None

    def find_by_type(self, saga_type: str, limit: int = 1000) -> list[SagaInstance]:
        return self._find(saga_instances.c.saga_type == str(saga_type), limit)

    def find_by_state(self, state: SagaState, limit: int = 1000) -> list[SagaInstance]:
        return self._find(saga_instances.c.state == str(state), limit)

    def find_by_correlation_id(self, correlation_id: str, limit: int = 1000) -> list[SagaInstance]:
        return self._find(saga_instances.c.correlation_id == correlation_id, limit)

    def find_by_key(self, saga_type: str, idempotency_key: str) -> SagaInstance | None:
        table = saga_instances.c
        found = self._find((table.saga_type == str(saga_type)) & (table.idempotency_key == idempotency_key))
        return found[0] if found else None

    def latest(self, limit: int = 50) -> list[SagaInstance]:
        return self._find(sa.true(), limit)

    def save_step(self, step: SagaStepData) -> None:
        """Store a step's id and data under its place in the plan. Its state is the engine's alone."""
        values = {
            "step_id": UUID(str(step.step_id)),
            "input_data": step.input_data,
            "output_data": step.output_data,
            "compensation_data": step.compensation_data,
        }
        statement = insert(saga_steps).values(
            saga_id=UUID(str(step.saga_id)),
            step_name=step.step_name,
            step_order=step.step_order,
            stage=step.step_order,
            **values,
        )
        with self._engine.begin() as connection:
            connection.execute(statement.on_conflict_do_update(index_elements=["saga_id", "step_order"], set_=values))

    def find_step_by_id(self, step_id: SagaStepId | UUID | str) -> SagaStepData | None:
        rows = self._rows(sa.select(saga_steps).where(saga_steps.c.step_id == UUID(str(step_id))))
        return _step(rows[0]) if rows else None

    def steps_of(self, saga_id: Id) -> list[SagaStepData]:
        """The steps in their order."""
        query = sa.select(saga_steps).where(saga_steps.c.saga_id == UUID(str(saga_id))).order_by("step_order")
        return [_step(row) for row in self._rows(query)]

    def events_of(self, stream: str) -> list[DomainEvent]:
        """The events of one stream (`saga:<id>`, `job:<id>`, ...) in order."""
        return self._events(saga_events.c.stream == stream)

    def find_events_by_correlation_id(self, correlation_id: str) -> list[DomainEvent]:
        return self._events(saga_events.c.correlation_id == correlation_id)

    def status(self, saga_id: Id) -> SagaStatus:
        """Raises SagaNotFound."""
        saga = self.find_by_id(saga_id)
        if saga is None:
            raise SagaNotFound(f"there is no saga {saga_id}")
        steps = self.steps_of(saga_id)
        running = saga.state in (SagaState.PENDING, SagaState.IN_PROGRESS)
        return SagaStatus(
            state=saga.state,
            current_step=next((s.step_name for s in steps if running and s.step_order == saga.current_step), None),
            steps=tuple(StepStatus(s.step_name, s.state, s.attempt, s.error) for s in steps),
            error=saga.error,
            saga_id=saga.saga_id,
            saga_type=saga.saga_type,
        )

    def result(self, saga_id: Id) -> SagaResult | None:
        """How the saga ended, None while it has not. Raises SagaNotFound."""
        saga = self.find_by_id(saga_id)
        if saga is None:
            raise SagaNotFound(f"there is no saga {saga_id}")
        if not saga.state.is_terminal:
            return None
        steps = self.steps_of(saga_id)
        return SagaResult(
            saga_id=saga.saga_id,
            outcome=saga.state,
            steps_executed=sum(step.attempt > 0 for step in steps),
            compensations_executed=sum(step.state is StepState.COMPENSATED for step in steps),
            outputs={step.step_name: step.output_data for step in steps if step.output_data is not None},
            error=saga.error,
        )

    def failed_step(self, saga_id: Id) -> tuple[str, UUID | None] | None:
        """Name and attempt id (None: never begun) of the step at which a saga FAILED; None if it did not.

        Raises SagaNotFound.
        """
        instance, step = saga_instances.c, saga_steps.c
        where = sa.case(
            (instance.failed_from == "undo", (step.state == "FAILED") & (step.phase == "undo")),
            else_=step.step_order == instance.current_step,
        )
        query = (
            sa.select(instance.state, step.step_name, step.attempt_id)
            .outerjoin_from(saga_instances, saga_steps, (step.saga_id == instance.saga_id) & where)
            .where(instance.saga_id == UUID(str(saga_id)))
        )
        rows = self._rows(query)
        if not rows:
            raise SagaNotFound(f"there is no saga {saga_id}")
        row = rows[0]
        failed = row["state"] == SagaState.FAILED and row["step_name"] is not None
        return (row["step_name"], row["attempt_id"]) if failed else None

    def _find(self, condition: Any, limit: int = 1) -> list[SagaInstance]:
        query = sa.select(saga_instances).where(condition).order_by(saga_instances.c.started_at.desc()).limit(limit)
        return [_instance(row) for row in self._rows(query)]

    def _events(self, condition: Any) -> list[DomainEvent]:
        query = sa.select(saga_events).where(condition).order_by("event_id")
        return [_event(row) for row in self._rows(query)]

    def _rows(self, query: sa.Select[Any], repeat: bool = True) -> list[sa.RowMapping]:
        """Raises StorageUnavailable."""
        try:
            with self._engine.connect() as connection:
                return list(connection.execute(query).mappings())
        except (DBAPIError, PoolTimeout) as error:
            if isinstance(error, DBAPIError) and not (
                error.connection_invalidated or isinstance(error, OperationalError)
            ):
                raise
            if repeat:
                # A stale pooled connection, most likely; reading twice is harmless.
                self._engine.dispose()
                return self._rows(query, repeat=False)
            reason = first_line(error.orig if isinstance(error, DBAPIError) else error)
            raise StorageUnavailable(f"PostgreSQL does not answer: {reason}") from error


def error_text(error: Mapping[str, Any] | None) -> str | None:
    """`Type: message` of a stored error."""
    if not error:
        return None
    return ": ".join(part for part in (error.get("type"), error.get("message")) if part)


def _instance(row: Any) -> SagaInstance:
    return SagaInstance(
        saga_id=SagaId(row["saga_id"]),
        saga_type=row["saga_type"],
        version=row["version"],
        state=SagaState(row["state"]),
        correlation_id=row["correlation_id"],
        actor=row["actor"],
        idempotency_key=row["idempotency_key"],
        payload=row["context"].get("payload"),
        metadata=row["context"].get("metadata") or {},
        current_step=row["current_step"],
        started_at=row["started_at"],
        completed_at=row["completed_at"],
        wake_at=row["wake_at"],
        deadline=row["deadline"],
        error=error_text(row["error"]),
    )


def _step(row: Any) -> SagaStepData:
    return SagaStepData(
        step_id=SagaStepId(row["step_id"]),
        saga_id=SagaId(row["saga_id"]),
        step_name=row["step_name"],
        step_order=row["step_order"],
        state=StepState(row["state"]),
        attempt=row["attempt"],
        input_data=row["input_data"],
        output_data=row["output_data"],
        compensation_data=row["compensation_data"],
        effect_possible=row["effect_possible"],
        error=error_text(row["error"]),
        started_at=row["started_at"],
        completed_at=row["completed_at"],
    )


def _event(row: Any) -> DomainEvent:
    return DomainEvent(
        event_type=row["event_type"],
        stream=row["stream"],
        payload=row["payload"],
        saga_id=SagaId(row["saga_id"]) if row["saga_id"] else None,
        correlation_id=row["correlation_id"],
        step_name=row["step_name"],
        actor=row["actor"],
        occurred_at=row["occurred_at"],
        event_id=row["event_id"],
    )
