"""`hodei flower`: Flower in the foreground, for a system that was started without it or elsewhere."""

from __future__ import annotations

import os

import click

from sagas.cli.processes import free_port, require_free_port
from sagas.cli.programs import PLATFORM_APP, flower_argv
from sagas.settings import load


@click.command()
@click.option("-A", "--app", default=PLATFORM_APP, show_default=True, help="The Celery app, as in `celery -A`.")
@click.option("--port", type=click.IntRange(1, 65535), help="The port on 127.0.0.1.  [default: a free one]")
def flower(app: str, port: int | None) -> None:
    """Run Flower on the system's broker, in the foreground."""
    settings = load()
    environment = {
        "HODEI_BROKER_URL": settings.require_broker(),
        **({"HODEI_DATABASE_URL": settings.database_url} if settings.database_url else {}),
    }
    port = require_free_port(port, "Flower") if port else free_port()
    argv = flower_argv(app, port)
    click.echo(f"Flower: http://127.0.0.1:{port} (stop it with Ctrl-C)")
    os.execve(argv[0], argv, {**os.environ, **environment})
