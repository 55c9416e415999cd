"""`hodei provider`: where workers come from, and what they can make."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import click

from models import Provider
from sagas.cli.report import show_table
from sagas.jobs.requirements import parse_bytes, show_bytes
from sagas.jobs.types import ProviderId
from tasks.cli.access import as_dict, records, show_json
from tasks.cli.submission import pairs, refuse

FIELDS = (
    *("provider_id", "kind", "host", "enabled", "capacity", "cpu", "memory", "labels", "created_at"),
    "last_seen_at",
)


@click.group()
def provider() -> None:
    """List the providers of workers, say what they have."""


@provider.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print it as JSON.")
def list_providers(as_json: bool) -> None:
    """List the providers: slots, and the cores and memory of all their workers together."""
    with records() as opened:
        found = opened.providers.list()
        left = {one.provider_id: opened.providers.slots_left(one) for one in found}
        troubles = opened.health.troubles()
    if as_json:
        more = {id_: {"slots_left": slots, "trouble": troubles.get(id_)} for id_, slots in left.items()}
        show_json([{**as_dict(one, *FIELDS), **more[one.provider_id]} for one in found])
        return
    rows = [
        (
            str(one.provider_id),
            one.kind,
            one.host,
            "yes" if one.enabled else "no",
            f"{left[one.provider_id]}/{one.capacity}",
            "-" if one.cpu is None else f"{one.cpu:g}",
            "-" if one.memory is None else show_bytes(one.memory),
            ", ".join(f"{name}={value}" for name, value in sorted(one.labels.items())) or "-",
            troubles.get(one.provider_id, "-"),
        )
        for one in found
    ]
    show_table(("PROVIDER", "KIND", "HOST", "ENABLED", "SLOTS LEFT", "CPU", "MEMORY", "LABELS", "TROUBLE"), rows)


@provider.command("set")
@click.argument("provider_id", type=click.UUID)
@click.option("--label", "labels", multiple=True, metavar="NAME=VALUE", help="Its workers have it (repeatable).")
@click.option("--no-label", "removed", multiple=True, metavar="NAME", help="Take a label away (repeatable).")
@click.option("--cpu", type=click.FloatRange(min=0, min_open=True), metavar="CORES", help="Of all its workers.")
@click.option("--memory", metavar="SIZE", help="Of all its workers: 512M, 64G.")
@click.option("--slots", type=click.IntRange(0, 100_000), metavar="N", help="How many workers it may have.")
@click.option("--enable/--disable", "enabled", default=None, help="Whether it makes workers at all.")
def set_provider(
    provider_id: UUID,
    labels: tuple[str, ...],
    removed: tuple[str, ...],
    cpu: float | None,
    memory: str | None,
    slots: int | None,
    enabled: bool | None,
) -> None:
    """Change what a provider has; its workers that run stay as they are."""
    try:
        added, size = pairs("--label", labels), parse_bytes(memory) if memory is not None else None
    except ValueError as error:
        raise refuse(error) from None
    said: dict[str, Any] = {"cpu": cpu, "memory": size, "capacity": slots, "enabled": enabled}
    with records() as opened:
        changed: Provider = opened.providers.change(
            ProviderId(provider_id),
            labels=added,
            without=removed,
            **{name: value for name, value in said.items() if value is not None},
        )
    click.echo(f"provider {changed.provider_id} ({changed.kind} on {changed.host}) is changed")
