"""`hodei check`: would sagas that are started now, and those in flight, find all that they need?"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import click

from sagas.cli.saga_engine import engine_of_settings, reading, require_broker_of
from sagas.errors import ConfigurationError, HodeiError

if TYPE_CHECKING:
    import sqlalchemy as sa
    from alembic.script import ScriptDirectory

    from sagas.runtime.engine import Engine

# Seconds that workers have to answer; a busy one answers from its main process, so at once.
PATIENCE = 2.0
MOST_NAMED = 20


@dataclass(frozen=True)
class Finding:
    """One question, and what is wrong: nothing, if `problems` is empty."""

    check: str
    problems: list[str]


@click.command()
@click.option("-A", "--app", help="The Celery app, as in `celery -A`.  [default: that of the running system]")
@click.option("--json", "as_json", is_flag=True, help="Print it as JSON.")
def check(app: str | None, as_json: bool) -> None:
    """Check definitions, queues and servers before a deploy; exit code 1 if anything is wrong."""
    findings = list(find_all(app))
    ok = not any(finding.problems for finding in findings)
    if as_json:
        click.echo(json.dumps({"ok": ok, "checks": [asdict(finding) for finding in findings]}, indent=2))
    else:
        for finding in findings:
            _show(finding)
    if not ok:
        click.get_current_context().exit(1)


def find_all(app: str | None) -> Iterator[Finding]:
    """All findings, in order; what cannot be asked without the one before is left out."""
    try:
        engine = _engine(app)
    except HodeiError as error:
        yield Finding("definitions", [str(error)])
        return
    yield Finding("definitions", [])
    database = Finding("database", _problems(lambda: _require_tables(engine)))
    broker = Finding("broker", _problems(lambda: require_broker_of(engine.app)))
    yield from (database, broker)
    if not database.problems:
        yield Finding("sagas in flight", list(_without_code(engine)))
    if not database.problems and not broker.problems:
        yield from _workers(engine)


def _engine(app: str | None) -> Engine:
    from sagas.cli.main import project_root
    from sagas.cli.programs import PLATFORM_APP, load_app
    from sagas.cli.system import Home
    from sagas.runtime.engine import engine_of

    running = Home.from_environment().running()
    platform = PLATFORM_APP if (project_root() / PLATFORM_APP / "cli").is_dir() else None
    name = app or (running.app if running else platform)
    if name is None:
        return engine_of_settings(definitions=True)
    engine = engine_of(load_app(name))
    engine.settings.require_database()
    return engine


def _problems(ask: Callable[[], None]) -> list[str]:
    try:
        ask()
    except HodeiError as error:
        return [str(error)]
    return []


def _require_tables(engine: Engine) -> None:
    """Raises an error of one line if the database does not answer, or is not at the newest version."""
    import sqlalchemy as sa
    from alembic.script import ScriptDirectory
    from alembic.util import CommandError

    from sagas.store.upgrade import VERSION_TABLE, alembic_config

    schema = engine.settings.db_schema
    with reading(), engine.sql.connect() as connection:
        isolation = connection.exec_driver_sql("SHOW default_transaction_isolation").scalar_one()
        inspector = sa.inspect(connection)
        there: list[str] = []
        if inspector.has_table(VERSION_TABLE, schema=schema):
            table = sa.table(VERSION_TABLE, sa.column("version_num"), schema=schema)
            there = list(connection.execute(sa.select(table.c.version_num)).scalars())
        # The platform's tables are asked for only where there are any: an app of its own has the engine's alone.
        script = ScriptDirectory.from_config(
            alembic_config(connection, schema, engine_only=not inspector.has_table("jobs", schema=schema))
        )
    try:
        newest = set(script.get_heads()) <= _with_ancestors(script, there)
    except CommandError:
        raise ConfigurationError("the database was made by a newer version; update hodei-sagas here") from None
    if not newest:
        raise ConfigurationError("the database is not at the newest version; run: hodei db upgrade")
    # Rows are locked, then read (R3); stricter, a claim beside its saga's start makes one of them fail.
    if isolation != "read committed":
        raise ConfigurationError(
            f"this role's transactions are {isolation}; the engine's are to be read committed:"
            " ALTER ROLE ... SET default_transaction_isolation = 'read committed'"
        )


def _with_ancestors(script: ScriptDirectory, revisions: list[str]) -> set[str]:
    """These revisions and all that they build on: the table of versions names only the last of each line."""
    found: set[str] = set()
    todo = list(revisions)
    while todo:
        revision = script.get_revision(todo.pop())
        if revision is not None and revision.revision not in found:
            found.add(revision.revision)
            for before in (revision.down_revision, revision.dependencies):
                todo += [before] if isinstance(before, str) else (before or ())
    return found


def _stored(sql: sa.Engine) -> list[tuple[str, int, list[str], list[str], int]]:
    """(name, version, tasks, queues, sagas in flight) of each definition that can be started or is in flight."""
    import sqlalchemy as sa

    query = sa.text("""
        SELECT d.name, d.version, d.steps, count(i.saga_id) AS active
        FROM saga_definitions d LEFT JOIN saga_instances i ON i.saga_type = d.name AND i.version = d.version
            AND i.state NOT IN ('COMPLETED', 'COMPENSATED', 'CANCELLED', 'FAILED')
        GROUP BY d.name, d.version
        HAVING count(i.saga_id) > 0 OR d.version = (SELECT max(version) FROM saga_definitions l WHERE l.name = d.name)
        ORDER BY d.name, d.version
    """)
    found = []
    with reading(), sql.connect() as connection:
        for name, version, steps, active in connection.execute(query):
            undone = [step for step in steps if step["has_compensation"]]
            tasks = [f"{name}.{step['name']}" for step in steps]
            tasks += [f"{name}.{step['name']}.compensate" for step in undone]
            queues = [step["queue"] for step in steps] + [step["undo_queue"] for step in undone]
            found.append((name, version, tasks, queues, active))
    return found


def _without_code(engine: Engine) -> Iterator[str]:
    """Sagas in flight whose version no loaded definition has: a deploy of this code would strand them (L56)."""
    import sqlalchemy as sa

    loaded = {(saga.name, saga.version) for saga in engine.registry}
    ids = sa.text(
        "SELECT saga_id FROM saga_instances WHERE saga_type = :name AND version = :version"
        " AND state NOT IN ('COMPLETED', 'COMPENSATED', 'CANCELLED', 'FAILED') ORDER BY started_at LIMIT :most"
    )
    for name, version, _tasks, _queues, active in _stored(engine.sql):
        if active and (name, version) not in loaded:
            with reading(), engine.sql.connect() as connection:
                rows = connection.execute(ids, {"name": name, "version": version, "most": MOST_NAMED})
                named = _some((str(saga_id) for saga_id in rows.scalars()), active)
            yield f"{active} of {name!r} version {version}, which no loaded definition has: {named}"


def _workers(engine: Engine) -> Iterator[Finding]:
    """Tasks that no live worker has, and queues that none consumes."""
    from sagas.runtime.install import ENGINE_QUEUES

    inspect = engine.app.control.inspect(timeout=PATIENCE)
    registered = inspect.registered() or {}
    if not registered:
        yield Finding("workers", ["no worker answers; start one: celery -A ... worker"])
        return
    yield Finding("workers", [])
    # A worker lists a task with its rate limit: `order.ship [rate_limit=10/m]`.
    known = {task.split(" ", 1)[0] for tasks in registered.values() for task in tasks or ()}
    consumed = {queue["name"] for queues in (inspect.active_queues() or {}).values() for queue in queues or ()}
    stored = _stored(engine.sql)
    tasks = {task for _name, _version, tasks, _queues, _active in stored for task in tasks}
    queues = {queue for *_, queues, _active in stored for queue in queues if "{" not in queue}
    yield Finding("tasks", [f"no live worker has the task {task}" for task in sorted(tasks - known)])
    missing = sorted({*ENGINE_QUEUES, *queues} - consumed)
    yield Finding("queues", [f"no live worker consumes the queue {queue}" for queue in missing])


def _some(names: Iterable[str], total: int) -> str:
    listed = list(names)
    return ", ".join(listed) + (f" and {total - len(listed)} more" if total > len(listed) else "")


def _show(finding: Finding) -> None:
    if not finding.problems:
        click.echo(f"ok       {finding.check}")
    for problem in finding.problems:
        click.secho(f"problem  {finding.check}: {problem}", fg="red")
