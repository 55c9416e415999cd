"""`hodei events`: deliveries that a subscriber or an exchange could not take, and what a person does about them."""

from __future__ import annotations

import json
from datetime import UTC
from typing import Any

import click

from sagas.cli.saga_engine import OneLineGroup, current_engine, reading
from sagas.errors import HodeiError


@click.group(cls=OneLineGroup)
def events() -> None:
    """Events and who wants them: list what could not be delivered, try it again, give it up."""


@events.command()
@click.option("--limit", type=click.IntRange(1, 10_000), default=50, show_default=True)
@click.option("--json", "as_json", is_flag=True, help="Print it as JSON.")
def parked(limit: int, as_json: bool) -> None:
    """List parked deliveries, the oldest first."""
    from sagas.cli.report import show_table
    from sagas.store.relay import RelayStore

    with reading():
        found = [_plain(row) for row in RelayStore(current_engine().sql).parked(limit)]
    if as_json:
        click.echo(json.dumps(found, indent=2))
        return
    columns = ("ID", "SUBSCRIBER", "EVENT", "TYPE", "STREAM", "ATTEMPTS", "PARKED", "ERROR")
    names = ("delivery_id", "subscriber", "event_id", "event_type", "stream", "attempt", "parked_at", "error")
    show_table(columns, [tuple(" ".join(str(row[name]).split()) for name in names) for row in found])


@events.command()
@click.argument("ids", metavar="ID...", nargs=-1, required=True, type=click.IntRange(1))
@click.option("--reason", help="Kept with the event that says so.")
@click.option("--actor", default="cli", show_default=True, help="Who does it.")
@click.option("--json", "as_json", is_flag=True, help="Print it as JSON.")
def retry(ids: tuple[int, ...], reason: str | None, actor: str, as_json: bool) -> None:
    """Open parked deliveries again, with all their attempts."""
    _mend(ids, "retry", reason, actor, as_json)


@events.command()
@click.argument("ids", metavar="ID...", nargs=-1, required=True, type=click.IntRange(1))
@click.option("--reason", required=True, help="Kept with the event that says so.")
@click.option("--actor", default="cli", show_default=True, help="Who does it.")
@click.option("--json", "as_json", is_flag=True, help="Print it as JSON.")
def drop(ids: tuple[int, ...], reason: str, actor: str, as_json: bool) -> None:
    """Give parked deliveries up: this subscriber will not get these events."""
    _mend(ids, "drop", reason, actor, as_json)


@events.command()
@click.option("--json", "as_json", is_flag=True, help="Print it as JSON.")
def subscribers(as_json: bool) -> None:
    """List who wants which events, and how many wait for them."""
    from sagas.cli.report import show_table
    from sagas.store.relay import RelayStore

    with reading():
        found = RelayStore(current_engine().sql).subscribers()
    if as_json:
        click.echo(json.dumps(found, indent=2))
        return
    rows = [{**one, "event_types": ", ".join(one["event_types"])} for one in found]
    names = ("subscriber", "kind", "target", "event_types", "open", "parked")
    columns = ("SUBSCRIBER", "KIND", "QUEUE OR EXCHANGE", "EVENTS", "OPEN", "PARKED")
    show_table(columns, [tuple(str(one[name]) for name in names) for one in rows])


@events.command()
@click.argument("subscriber")
@click.option("--reason", required=True, help="Kept with the event that says so.")
@click.option("--actor", default="cli", show_default=True, help="Who does it.")
def unsubscribe(subscriber: str, reason: str, actor: str) -> None:
    """Forget a subscriber whose code is gone: what is open for it is dropped."""
    from sagas.store.relay import RelayStore

    with reading():
        dropped = RelayStore(current_engine().sql).unsubscribe(subscriber, reason, actor)
    if dropped is None:
        raise HodeiError(f"there is no subscriber {subscriber!r}; see: hodei events subscribers")
    click.echo(f"{subscriber} unsubscribed, {dropped} open deliveries dropped")


def _mend(ids: tuple[int, ...], verb: str, reason: str | None, actor: str, as_json: bool) -> None:
    """All of them, then one line for those that could not be."""
    from sagas.runtime.subscribers import publish_delivery
    from sagas.store.relay import RelayStore

    engine = current_engine()
    store = RelayStore(engine.sql)
    done: list[dict[str, Any]] = []
    refused: list[str] = []
    with reading():
        for delivery_id in dict.fromkeys(ids):
            answer = store.mend_delivery(delivery_id, verb, reason, actor)
            if answer["verdict"] == "unknown":
                refused.append(f"there is no delivery {delivery_id}")
            elif answer["verdict"] == "not_parked":
                refused.append(f"delivery {delivery_id} is {answer['state']}, not PARKED")
            else:
                publish_delivery(engine.app, answer.get("publish"))
                done.append({"delivery_id": delivery_id, "verdict": answer["verdict"]})
    if as_json:
        click.echo(json.dumps(done, indent=2))
    else:
        for one in done:
            click.echo(f"{one['delivery_id']} {one['verdict']}")
    if refused:
        raise HodeiError("; ".join(refused) + "; see: hodei events parked")


def _plain(row: dict[str, Any]) -> dict[str, Any]:
    """As values that JSON can hold."""
    from sagas.store.repository import error_text

    parked_at = row.pop("closed_at").astimezone(UTC).isoformat(timespec="milliseconds")
    saga_id = str(row["saga_id"]) if row["saga_id"] else None
    return {**row, "saga_id": saga_id, "error": error_text(row["error"]), "parked_at": parked_at}
