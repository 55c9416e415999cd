"""`hodei db`: the tables."""

from __future__ import annotations

import click

from sagas.cli.servers import require_database
from sagas.settings import load


@click.group()
def db() -> None:
    """Make and change the database's tables."""


@db.command()
@click.option("--engine-only", is_flag=True, help="The engine's tables only, without those of the job platform.")
def upgrade(engine_only: bool) -> None:
    """Bring the tables of HODEI_DATABASE_URL (or of the running system) to the newest version."""
    from sagas.cli.up import upgrade_database

    url = load().require_database()
    require_database(url)
    upgrade_database(url, engine_only=engine_only)
    _write_definitions(url, engine_only)
    click.echo("the tables are up to date")


def _write_definitions(url: str, engine_only: bool) -> None:
    """So that a saga can be started before the first worker is: those of HODEI_SAGA_MODULES, and the platform's."""
    from sagas.cli.main import project_root
    from sagas.cli.programs import PLATFORM_APP, load_app
    from sagas.registry import Registry
    from sagas.runtime.engine import engine_of
    from sagas.store.database import connect_engine
    from sagas.store.definitions import register

    settings = load()
    if not engine_only and (project_root() / PLATFORM_APP / "cli").is_dir():
        registry = engine_of(load_app(PLATFORM_APP)).registry
    else:
        registry = Registry()
        registry.load_modules(settings.saga_modules)
    engine = connect_engine(url, schema=settings.db_schema)
    try:
        register(engine, registry, settings)
    finally:
        engine.dispose()
