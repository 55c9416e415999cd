"""The plans of sagas in `saga_definitions`, so that any language can start one and the store needs no code."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
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
        ordered = sorted(sagas, key=lambda saga: (saga.name, saga.version))
        latest = {saga.name: saga for saga in ordered}
        with engine.begin() as connection:
            for saga in ordered:
                _register_one(connection, saga, settings, latest)
    except ProgrammingError as error:
        if "saga_definitions" in str(error.orig):
            raise StorageUnavailable("the database has no engine tables yet; run: hodei db upgrade") from None
        raise
    except OperationalError as error:
        raise StorageUnavailable(f"PostgreSQL does not answer: {str(error.orig).strip().splitlines()[0]}") from error


def _register_one(connection: sa.Connection, saga: Saga, settings: Settings, latest: Mapping[str, Saga]) -> None:
    steps = [step.plan(settings.step_timeout) for step in saga.steps]
    for step in steps:
        if step["child"] and _has_pivot(connection, step["child"], latest, {saga.name}, f"{saga.name}.{step['name']}"):
            step["pivot"] = True
    values: dict[str, Any] = {
        "steps": steps,
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


def _has_pivot(
    connection: sa.Connection, name: str, latest: Mapping[str, Saga], above: set[str], wanted_by: str
) -> bool:
    """Whether that saga, or a child of it, has a step without a way back: it makes its parent's step one (R16)."""
    if name in above:
        return False
    if name in latest:
        return any(
            step.pivot or (step.child and _has_pivot(connection, step.child, latest, above | {name}, wanted_by))
            for step in latest[name].steps
        )
    table = saga_definitions.c
    query = sa.select(table.steps).where(table.name == name).order_by(table.version.desc()).limit(1)
    stored = connection.execute(query).scalar()
    if stored is None:
        raise DefinitionError(f"step {wanted_by}: no saga {name!r} is loaded here or defined in this database; load it")
    return any(step["pivot"] for step in stored)


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
