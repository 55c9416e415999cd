"""`hodei saga`, and the same commands as `celery -A app saga`, which then work on that app's engine and database.

Every `celery` command imports this module: it imports click, and everything else when it is called.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sagas.cli.saga_engine import OneLineGroup, current_engine, reading, require_broker_of, saga_id_of
from sagas.cli.saga_metrics import metrics
from sagas.cli.saga_verbs import VERBS
from sagas.errors import ConfigurationError, InvalidPayload
from sagas.types import SagaId, SagaState

if TYPE_CHECKING:
    from sagas.results import SagaResult
    from sagas.runtime.engine import Engine

json_option = click.option("--json", "as_json", is_flag=True, help="Print it as JSON.")


@click.group(cls=OneLineGroup)
def saga() -> None:
    """List, show, start and cancel sagas."""


@saga.command("list")
@click.option("--state", "states", multiple=True, type=click.Choice(list(SagaState), case_sensitive=False))
@click.option("--type", "saga_type", metavar="NAME", help="Sagas of this definition only.")
@click.option("--limit", type=click.IntRange(1, 10_000), default=50, show_default=True)
@click.option("--shadow", is_flag=True, help="Those too that run in the shadow, without effect.")
@json_option
def list_sagas(states: tuple[SagaState, ...], saga_type: str | None, limit: int, shadow: bool, as_json: bool) -> None:
    """List sagas, the latest first."""
    from sagas.cli.render import render_sagas
    from sagas.cli.saga_rows import latest_sagas

    found = latest_sagas(current_engine().sql, states, saga_type, limit, shadow)
    _show_json(found) if as_json else render_sagas(found)


@saga.command()
@click.argument("saga_id", metavar="ID")
@json_option
def show(saga_id: str, as_json: bool) -> None:
    """Show one saga: its state, its steps, its events, and what is outstanding."""
    from sagas.cli.render import render_saga
    from sagas.cli.saga_rows import one_saga

    found = one_saga(current_engine().sql, saga_id_of(saga_id))
    _show_json(found) if as_json else render_saga(found)


@saga.command()
@click.argument("saga_type", metavar="TYPE")
@click.option("--payload", default="{}", metavar="JSON", help="A JSON object; @FILE reads a file, - standard input.")
@click.option("--key", metavar="KEY", help="Start once: the same key again gives the same saga.")
@click.option("--correlation-id", metavar="ID", help="Kept with the saga and its events.")
@click.option("--actor", default="cli", show_default=True, help="Who starts it.")
@click.option("--wait", is_flag=True, help="Wait for the end; exit code 0 only if the saga is COMPLETED.")
@json_option
def start(
    saga_type: str,
    payload: str,
    key: str | None,
    correlation_id: str | None,
    actor: str,
    wait: bool,
    as_json: bool,
) -> None:
    """Start a saga for the workers, and print its id."""
    from sagas.client import check_json

    engine = current_engine(definitions=True)
    fields = check_json(_payload(payload), engine.settings.max_payload)
    require_broker_of(engine.app)
    saga_id = engine.orchestrator.start_saga(
        saga_type, fields, idempotency_key=key, correlation_id=correlation_id, actor=actor
    )
    if not wait:
        _show_json({"saga_id": str(saga_id)}) if as_json else click.echo(str(saga_id))
        return
    result = _wait(engine, saga_id)
    _show_json(_as_dict(result)) if as_json else click.echo(_line(result))
    if result.outcome is not SagaState.COMPLETED:
        click.get_current_context().exit(1)


@saga.command()
@click.argument("saga_id", metavar="ID")
@click.option("--reason", default="cancelled", show_default=True, help="Kept with the saga as its error.")
@click.option("--actor", default="cli", show_default=True, help="Who cancels it.")
def cancel(saga_id: str, reason: str, actor: str) -> None:
    """Ask a saga to go back: what was done is undone, and it ends CANCELLED."""
    from sagas.runtime.verbs import cancel_saga

    verdict = cancel_saga(current_engine(), saga_id_of(saga_id), reason, actor)
    if verdict == "terminal":
        raise ConfigurationError(f"saga {saga_id} has ended already: nothing is cancelled")
    if verdict == "past_pivot":
        raise ConfigurationError(f"saga {saga_id} is past its point of no return: it goes on")
    click.echo(verdict)


saga.add_command(metrics)
for verb in VERBS:
    saga.add_command(verb)


def _payload(text: str) -> Any:
    """Raises InvalidPayload for what is no JSON, and says where it came from."""
    source = "standard input" if text == "-" else text[1:] if text.startswith("@") else "--payload"
    try:
        if text == "-":
            text = sys.stdin.read()
        elif text.startswith("@"):
            text = Path(source).read_text()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is no text in UTF-8"
        raise InvalidPayload(f"the payload cannot be read from {source}: {reason}") from None
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InvalidPayload(f"the payload ({source}) is not JSON: {error}") from None


def _wait(engine: Engine, saga_id: SagaId) -> SagaResult:
    pause = 0.05
    try:
        with reading():
            while (result := engine.repository.result(saga_id)) is None:
                time.sleep(pause)
                pause = min(pause * 1.5, 1.0)
    except KeyboardInterrupt:
        click.echo(f"hodei: saga {saga_id} goes on; see: hodei saga show {saga_id}", err=True)
        sys.exit(130)
    return result


def _as_dict(result: SagaResult) -> dict[str, Any]:
    return {
        "saga_id": str(result.saga_id),
        "outcome": result.outcome,
        "steps_executed": result.steps_executed,
        "compensations_executed": result.compensations_executed,
        "outputs": result.outputs,
        "error": result.error,
    }


def _line(result: SagaResult) -> str:
    counts = f"{result.steps_executed} steps, {result.compensations_executed} compensations"
    return f"{result.saga_id} {result.outcome} ({counts})" + (f": {result.error}" if result.error else "")


def _show_json(value: Any) -> None:
    click.echo(json.dumps(value, indent=2))
