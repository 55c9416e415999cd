"""The plans of sagas in `saga_definitions`, so that any language can start one and the store needs no code."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.exc import OperationalError, ProgrammingError

from sagas.definition import Saga
from sagas.errors import DefinitionError, StorageUnavailable
from sagas.settings import Settings
from sagas.store.schema import saga_definitions, saga_instances
from sagas.types import TERMINAL


def register(engine: sa.Engine, sagas: Iterable[Saga], settings: Settings) -> None:
    """Write or refresh the definitions. Time-outs, retries and queues may change at any time; what sagas in flight
    depend on (steps, their order and kinds) only under a new version while there are any: DefinitionError.
    """
    try:
        with engine.begin() as connection:
            for saga in sorted(sagas, key=lambda saga: (saga.name, saga.version)):
                _register_one(connection, saga, settings)
    except ProgrammingError as error:
        if "saga_definitions" in str(error.orig):
            raise StorageUnavailable("the database has no engine tables yet; run: hodei db upgrade") from None
        raise
    except OperationalError as error:
        raise StorageUnavailable(f"PostgreSQL does not answer: {str(error.orig).strip().splitlines()[0]}") from error


def _register_one(connection: sa.Connection, saga: Saga, settings: Settings) -> None:
    values: dict[str, Any] = {
        "steps": [step.plan(settings.step_timeout) for step in saga.steps],
        "payload_schema": saga.payload.model_json_schema() if saga.payload else None,
        "digest": saga.digest(),
        "timeout_s": saga.timeout,
        "max_payload": settings.max_payload,
    }
    table = saga_definitions.c
    where = (table.name == saga.name) & (table.version == saga.version)
    stored = connection.execute(sa.select(saga_definitions).where(where).with_for_update()).mappings().first()
    if stored and {key: stored[key] for key in values} == json.loads(json.dumps(values)):
        return
    if stored and stored["digest"] != values["digest"]:
        _refuse_if_in_flight(connection, saga)
    statement = insert(saga_definitions).values(name=saga.name, version=saga.version, **values)
    connection.execute(statement.on_conflict_do_update(index_elements=["name", "version"], set_=values))


def _refuse_if_in_flight(connection: sa.Connection, saga: Saga) -> None:
    table = saga_instances.c
    active = connection.execute(
        sa.select(sa.func.count()).where(
            table.saga_type == saga.name, table.version == saga.version, table.state.not_in(TERMINAL)
        )
    ).scalar_one()
    if active:
        raise DefinitionError(
            f"saga {saga.name!r} version {saga.version} has other steps than the {active} sagas in flight were "
            f"started with; give the new one version={saga.version + 1} and keep the old one loaded"
        )
