"""`hodei status`: what runs and what it has to do."""

from __future__ import annotations

import contextlib
import json
import os
from typing import Any

import click

from sagas.cli.health import answers_http, nodes_that_answer
from sagas.cli.programs import load_app
from sagas.cli.report import show_table
from sagas.cli.servers import libpq_url, postgres_answers, require_broker, require_database
from sagas.cli.supervise import Supervisor
from sagas.cli.system import Home, System
from sagas.errors import ConfigurationError, HodeiError
from sagas.settings import Settings, load

# Seconds without a tick after which reconcile is said not to run.
RECONCILE_LATE = 10.0


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print it as JSON.")
def status(as_json: bool) -> None:
    """Show the servers, the nodes and the sagas by state; exit code 1 if nothing runs or a server does not answer."""
    home = Home.from_environment()
    report = read_status(home, load())
    if as_json:
        click.echo(json.dumps(report, indent=2))
        return
    show_table(("SERVER", "STATE"), list(report["servers"].items()))
    click.echo()
    show_table(("PROCESS", "STATE"), [*report["processes"].items(), *((node, "answers") for node in report["nodes"])])
    click.echo()
    if report["sagas"] is None:
        click.echo("no tables yet: hodei db upgrade")
    else:
        show_table(("SAGAS", "COUNT"), [(state, str(count)) for state, count in sorted(report["sagas"].items())])


def read_status(home: Home, settings: Settings) -> dict[str, Any]:
    """Everything that `status` shows. Raises an error of one line if nothing runs or a server does not answer."""
    system = home.running()
    nothing = f"nothing is running in {home.path}: start it with `hodei up`"
    if not settings.database_url or not settings.broker_url:
        raise ConfigurationError(nothing)
    if system is None and not os.environ.get("HODEI_DATABASE_URL") and not postgres_answers(settings.database_url):
        raise ConfigurationError(nothing)  # only the record of a killed run is there
    _require(home, settings.database_url, settings.broker_url)
    servers = {"database": "answers", "broker": "answers", **_reconcile(settings.database_url, settings.db_schema)}
    if home.supervisor() is not None:
        servers["supervisor"] = "runs" if system is not None else "is dead: `hodei up` starts all anew"
    if system is not None and system.flower_url:
        servers["flower"] = "answers" if answers_http(system.flower_url) else "does not answer"
    return {
        "home": str(home.path),
        "running": system is not None,
        "servers": servers,
        "processes": Supervisor(home).states(),
        "nodes": sorted(_nodes(system, settings.broker_url)),
        "sagas": saga_counts(settings.database_url, settings.db_schema),
    }


def _require(home: Home, database_url: str, broker_url: str) -> None:
    """Raises the error of a server that does not answer, with how long ago it did: for both of them, if need be."""
    from sagas.runtime.seen import silence

    trouble: list[HodeiError] = []
    for server, ask, url in (("database", require_database, database_url), ("broker", require_broker, broker_url)):
        try:
            ask(url)
        except HodeiError as error:
            ago = silence(home.path, server)
            trouble.append(type(error)(f"{error}" + (f" (it last did {ago:.0f} s ago)" if ago is not None else "")))
    if trouble:
        raise type(trouble[0])("; ".join(str(one) for one in trouble))


def _reconcile(database_url: str, schema: str | None) -> dict[str, str]:
    """When reconcile last ran, in words; nothing where the tables are not there yet."""
    rows = _rows(
        database_url, schema, "engine_state", "SELECT extract(epoch FROM {now}() - reconciled_at) FROM {table}"
    )
    if not rows:
        return {}
    ago = max(float(rows[0][0]), 0.0)
    late = f"has not run for {ago:.0f} s: is a beat running, and a worker on queue control?"
    return {"reconcile": f"ran {ago:.0f} s ago" if ago < RECONCILE_LATE else late}


def saga_counts(database_url: str, schema: str | None) -> dict[str, int] | None:
    """How many sagas are in each state, without those in the shadow; None where the tables are not there yet."""
    counts = "SELECT state, count(*) FROM {table} WHERE NOT shadow GROUP BY state"
    rows = _rows(database_url, schema, "saga_instances", counts)
    return None if rows is None else {str(state): int(count) for state, count in rows}


def _rows(database_url: str, schema: str | None, table: str, query: str) -> list[tuple[Any, ...]] | None:
    """What the query says of this table; None where it is not there yet."""
    import psycopg2
    from psycopg2 import errors, sql

    names = {"table": table, "now": "saga_now"}
    placed = {key: sql.Identifier(*((schema,) if schema else ()), name) for key, name in names.items()}
    with contextlib.closing(psycopg2.connect(libpq_url(database_url))) as connection:
        try:
            with connection.cursor() as cursor:
                cursor.execute(sql.SQL(query).format(**placed))
                return list(cursor.fetchall())
        except errors.UndefinedTable:
            return None


def _nodes(system: System | None, broker_url: str) -> set[str]:
    from celery import Celery

    if system is None:
        return nodes_that_answer(Celery(broker=broker_url))
    # The app itself: its transport options (a key prefix) are the nodes' own.
    os.environ["HODEI_BROKER_URL"] = broker_url
    return nodes_that_answer(load_app(system.app))
