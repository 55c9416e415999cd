"""`hodei`: a group whose commands are imported when they are called, and errors of one line."""

from __future__ import annotations

import difflib
import importlib
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

# Command: where it is, and its line in the help, so that `hodei --help` imports none of them.
OWN = {
    "up": ("sagas.cli.up:up", "Start the embedded system and wait until it is healthy."),
    "down": ("sagas.cli.down:down", "Stop all that `up` started, agents and servers too."),
    "status": ("sagas.cli.status:status", "Show the servers, the nodes and the sagas by state."),
    "flower": ("sagas.cli.flower:flower", "Run Flower on the system's broker, in the foreground."),
    "db": ("sagas.cli.db:db", "Make and change the database's tables."),
    "check": ("sagas.cli.check:check", "Check definitions, queues and settings before a deploy."),
    "events": ("sagas.cli.events:events", "Events that could not be delivered: list, retry, drop."),
    "saga": ("sagas.cli.saga:saga", "List, show, start and cancel sagas."),
}
PLATFORM = {
    "job": ("tasks.cli.job:job", "Submit and cancel jobs, read their state and output."),
    "provider": ("tasks.cli.provider:provider", "List the providers of workers, say what they have."),
    "flags": ("tasks.cli.flags:flags", "Say which work goes through the sagas, and which past them."),
    "shadow": ("tasks.cli.shadow:shadow", "Compare what went past the sagas with them."),
    "worker": ("tasks.cli.worker:worker", "List the workers that run jobs."),
    "demo": ("tasks.cli.demo:demo", "Run jobs and sagas on a system of its own and print a summary."),
}


class LazyGroup(click.Group):
    """Knows its commands by name, imports one when it is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(_commands())

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        where, _ = _commands().get(cmd_name, ("", ""))
        if not where:
            return None
        if cmd_name in PLATFORM:
            sys.path.insert(0, str(project_root()))  # before the `tasks` of somebody's working directory
        module, _, name = where.partition(":")
        command = getattr(importlib.import_module(module), name)
        assert isinstance(command, click.Command), where
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as error:
            # click looks for close names among imported commands, and none is imported.
            close = difflib.get_close_matches(args[0], _commands(), n=1)
            raise click.UsageError(f"{error.message} Did you mean '{close[0]}'?", ctx) if close else error from None

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_, line) in sorted(_commands().items())])


def project_root() -> Path:
    """The directory beside which `sagas` lies: the checkout, or site-packages."""
    return Path(__file__).resolve().parents[2]


def _commands() -> dict[str, tuple[str, str]]:
    # The platform's commands are there in a checkout only: a foreign `tasks` package is never imported.
    return {**OWN, **PLATFORM} if (project_root() / "tasks" / "cli" / "__init__.py").exists() else OWN


def _version() -> str:
    from importlib.metadata import version

    return version("hodei-sagas")


def _show_version(ctx: click.Context, _: click.Parameter, wanted: bool) -> None:
    if wanted:
        click.echo(f"hodei {_version()}")
        ctx.exit()


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--version", is_flag=True, expose_value=False, is_eager=True, callback=_show_version, help="The version.")
def cli() -> None:
    """Durable sagas on Celery."""


def main(args: Sequence[str] | None = None) -> Any:
    """The console script: like the group, but an error that a user can mend is one line and exit code 1."""
    from sagas.errors import HodeiError

    sys.path.append(str(Path.cwd()))  # HODEI_SAGA_MODULES may lie in the working directory
    try:
        return cli.main(args=list(args) if args is not None else None, prog_name="hodei")
    except HodeiError as error:
        click.echo(f"hodei: {error}", err=True)
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0]
        if missing in {"sagas", "tasks", "models", ""}:
            raise
        click.echo(f"hodei: {missing} is not installed: pip install 'hodei-sagas[server]'", err=True)
    sys.exit(1)
