"""A person's verbs for sagas: retry, skip, force, pause, resume. Each is an event with actor and reason."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any
from uuid import UUID

import click

from sagas.cli.saga_engine import current_engine, saga_id_of
from sagas.errors import ConfigurationError, InvalidPayload
from sagas.types import SagaId

Command = Callable[..., Any]


def _saga_id(_ctx: click.Context, _param: click.Parameter, text: str) -> SagaId:
    return saga_id_of(text)


def _person(command: Command) -> Command:
    """What every verb takes: the saga, and who does it, and why."""
    command = click.option("--actor", default="cli", show_default=True, help="Who does it.")(command)
    command = click.option("--reason", required=True, help="Why; kept in the saga's events.")(command)
    return click.argument("saga_id", metavar="ID", callback=_saga_id)(command)


def _mender(command: Command) -> Command:
    """What the verbs for a FAILED saga take besides: the step and its attempt, so that one said twice acts once."""
    attempt = "The attempt that failed (see `saga show --json`); by default the one that failed last."
    command = click.option("--attempt", "attempt_id", type=click.UUID, help=attempt)(command)
    return click.option("--step", help="The step that failed; by default the one that did.")(command)


def _mend(verb: str, saga_id: SagaId, output: Any = None, **said: Any) -> None:
    from sagas.runtime.verbs import mend_saga

    click.echo(mend_saga(current_engine(), saga_id, verb, output=output, **said))


@click.command()
@_person
@_mender
def retry(saga_id: SagaId, step: str | None, attempt_id: UUID | None, reason: str, actor: str) -> None:
    """Try the step (or the undo) at which a saga has FAILED once more, and go on from there."""
    _mend("retry", saga_id, step=step, attempt_id=attempt_id, reason=reason, actor=actor)


@click.command()
@_person
@_mender
def skip(saga_id: SagaId, step: str | None, attempt_id: UUID | None, reason: str, actor: str) -> None:
    """It did not happen, go on without it: a FAILED saga's step, or its undo, whose effect then stays listed."""
    _mend("skip", saga_id, step=step, attempt_id=attempt_id, reason=reason, actor=actor)


@click.command()
@_person
@_mender
@click.option("--output", metavar="JSON", default="null", help="The step's output, for the steps that follow.")
def force(saga_id: SagaId, step: str | None, attempt_id: UUID | None, reason: str, actor: str, output: str) -> None:
    """It happened, with this output (or has been undone by hand), go on: a FAILED saga's step or undo."""
    try:
        value = json.loads(output)
    except ValueError as error:
        raise InvalidPayload(f"--output is not JSON: {error}") from None
    _mend("force", saga_id, value, step=step, attempt_id=attempt_id, reason=reason, actor=actor)


@click.command()
@_person
def pause(saga_id: SagaId, reason: str, actor: str) -> None:
    """Begin nothing new for a saga; what is running ends by itself."""
    from sagas.runtime.verbs import pause_saga

    _say(saga_id, pause_saga(current_engine(), saga_id, reason, actor))


@click.command()
@_person
def resume(saga_id: SagaId, reason: str, actor: str) -> None:
    """Let a paused (or parked) saga go on."""
    from sagas.runtime.verbs import resume_saga

    _say(saga_id, resume_saga(current_engine(), saga_id, reason, actor))


def _say(saga_id: SagaId, verdict: str) -> None:
    if verdict == "terminal":
        raise ConfigurationError(f"saga {saga_id} has ended already")
    click.echo(verdict)


VERBS = (retry, skip, force, pause, resume)
