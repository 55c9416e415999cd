"""Bring a database to this version: the engine's history, the application's further branches, the SQL functions."""

from __future__ import annotations

import importlib.util
from contextlib import suppress
from importlib.resources import files
from pathlib import Path

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from sqlalchemy.exc import OperationalError

from sagas.errors import StorageUnavailable
from sagas.store.database import connect_engine

VERSION_TABLE = "hodei_alembic_version"
BY_INDEX = (
    "saga_start(text, jsonb, text, text, text, uuid, jsonb, integer, boolean, jsonb)",
    "saga_start_many(text, jsonb, text, text, jsonb, boolean)",
    "saga_claim(uuid, text, boolean, uuid, text, text, integer, double precision, double precision, uuid)",
    "saga_commit(uuid, text, uuid, text, jsonb, jsonb, jsonb, double precision, boolean, text[], uuid,"
    " double precision)",
    "saga_done(uuid, text, uuid, jsonb, boolean, double precision, text[], uuid, jsonb)",
    "saga_claim_many(uuid[], integer, text, uuid[], text, text, integer, double precision, double precision, uuid)",
    "saga_commit_many(uuid[], text[], uuid[], text[], text[], text[], uuid[], double precision)",
    "saga_undone(uuid, text, uuid, jsonb, boolean, double precision, text[], uuid, jsonb)",
    "saga_prepare_undo(uuid, text, uuid, jsonb)",
    "saga_take_over(uuid, text, uuid, text, boolean)",
    "saga_cancel(uuid, text, text)",
    "saga_pause(uuid, boolean, text, text)",
    "saga_mend(uuid, text, text, uuid, jsonb, text, text)",
    "saga_hint(uuid)",
    "saga_reconcile(integer, double precision)",
    "saga_put_right(integer)",
    "saga_lost(uuid, integer)",
    "saga_renew(uuid, text, uuid, double precision)",
    "saga_event(text, text, jsonb, uuid, text, text, text)",
)
"""Entry points that read the rows of sagas that they are given or that are due, and no table from end to end.
A connection keeps a plan until PostgreSQL has looked at its tables again; made while they were small, it would read all
of a large one (decision 0022).
"""
ENTRY_POINTS = (
    *BY_INDEX,
    "start_saga(text, jsonb, text, text, text, uuid)",
    "saga_waiting(text[])",
    "saga_node_beat(uuid, text, text, integer, text[])",
    "saga_silent(double precision, double precision)",
    "saga_backlog(text, integer, integer, integer)",
    "saga_put_off(text, double precision, integer)",
    "saga_call_in(text, double precision, integer)",
    "saga_delivery_claim(bigint, uuid, text, text, integer, double precision, double precision, uuid)",
    "saga_delivery_settle(bigint, uuid, jsonb, double precision)",
    "saga_delivery_give_back(bigint, uuid, jsonb, double precision)",
    "saga_delivery_lost(bigint, uuid, text)",
    "saga_delivery_again(bigint, integer)",
    "saga_delivery_silent(double precision)",
    "saga_delivery_mend(bigint, text, text, text)",
    "saga_unsubscribe(text, text, text)",
    "saga_relay(integer)",
    "saga_relay_take(text, uuid, integer, double precision)",
    "saga_relay_taken(text, uuid, bigint[], jsonb)",
)
"""Called from outside and therefore fixed in where they look and how long they wait for a lock (R21); what they call
inherits both. No session setting is needed, so a pooler in transaction mode is no obstacle.
"""

FORMER = (
    "saga_save",
    "saga_go_on",
    "saga_step_done",
    "saga_step_undone",
    "saga_commit_and_claim",
    "saga_grant",
    "saga_done_and_claim",
)
"""Functions of earlier versions: a database that has them could not drop its tables, whose row types they take."""


def upgrade(url: str, schema: str | None = None, engine_only: bool = False) -> None:
    """Run the migrations of branch `engine` and, unless `engine_only`, of an application's `models.migrations`."""
    engine = connect_engine(url, schema=schema)
    try:
        with engine.begin() as connection:
            # Two at once are harmless: the second waits, then finds nothing to do.
            connection.execute(sa.text("SELECT pg_advisory_xact_lock(hashtext('hodei_upgrade'))"))
            if schema:
                connection.execute(sa.schema.CreateSchema(schema, if_not_exists=True))
            command.upgrade(alembic_config(connection, schema, engine_only), "heads")
            install_functions(connection)
    except OperationalError as error:
        reason = str(error.orig).strip().splitlines()[0]
        raise StorageUnavailable(f"database {engine.url.render_as_string()}: {reason}") from None
    finally:
        engine.dispose()


def alembic_config(connection: sa.Connection, schema: str | None, engine_only: bool) -> Config:
    """The configuration that `alembic` itself would read from a file."""
    config = Config()
    locations = [str(files("sagas.store").joinpath("migrations", "versions"))]
    further = None if engine_only else _application_versions()
    if further:
        locations.append(str(further))
    config.set_main_option("script_location", str(files("sagas.store").joinpath("migrations")))
    config.set_main_option("path_separator", "newline")
    config.set_main_option("version_locations", "\n".join(locations))
    config.attributes.update(connection=connection, schema=schema)
    return config


def install_functions(connection: sa.Connection) -> None:
    """(Re)create every SQL function in the connection's current schema. They hold the engine's rules, one a file."""
    # Dropped first: a function whose arguments have changed would stay beside its successor. One transaction does both.
    drop_functions(connection)
    raw = connection.connection.cursor()
    for file in _function_files():
        raw.execute(file.read_text())
    schema = connection.execute(sa.text("SELECT quote_ident(current_schema())")).scalar_one()
    for signature in ENTRY_POINTS:
        raw.execute(f"ALTER FUNCTION {signature} SET search_path = {schema}, pg_temp")
        raw.execute(f"ALTER FUNCTION {signature} SET lock_timeout = '5s'")
        if signature in BY_INDEX:
            raw.execute(f"ALTER FUNCTION {signature} SET enable_seqscan = off")


def drop_functions(connection: sa.Connection) -> None:
    """Drop what `install_functions` made; the tables' row types are among their arguments."""
    names = [*FORMER, *(file.stem.split("_", 1)[1] for file in _function_files())]
    ours = sa.text(
        "SELECT oid::regprocedure::text FROM pg_proc"
        " WHERE pronamespace = (SELECT oid FROM pg_namespace WHERE nspname = current_schema())"
        " AND proname = ANY (:names)"
    )
    for signature in connection.execute(ours, {"names": names}).scalars().all():
        connection.execute(sa.text(f"DROP FUNCTION {signature}"))


def _function_files() -> list[Path]:
    return sorted(Path(str(files("sagas.store").joinpath("sql"))).glob("*.sql"))


def _application_versions() -> Path | None:
    """The migrations of the application beside this package, never those of somebody's own `models` module."""
    beside = Path(__file__).resolve().parents[2] / "models" / "migrations" / "versions"
    with suppress(ImportError, ValueError):
        spec = importlib.util.find_spec("sagas.jobs")
        return beside if spec is not None and beside.is_dir() else None
    return None
