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
    click.echo("the tables are up to date")
