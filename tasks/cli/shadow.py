"""`hodei shadow`: what the sagas in the shadow would have done otherwise."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import click

from models.shadows import ShadowTotals
from sagas import SagaType
from sagas.cli.report import show_table
from tasks.cli.access import as_dict, records, short, show_json

FIELDS = (
    *("run_id", "saga_type", "key", "percent", "saga_id", "direct_outcome", "direct_error", "saga_outcome"),
    *("saga_error", "differences", "begun_at", "compared_at"),
)


@click.group()
def shadow() -> None:
    """Compare what went past the sagas with what they would have made of it."""


@shadow.command()
@click.option("--saga", type=click.Choice(list(SagaType), case_sensitive=False), help="Differences of this one only.")
@click.option("--limit", type=click.IntRange(0, 1000), default=20, show_default=True, help="Differences to show.")
@click.option("--json", "as_json", is_flag=True, help="Print it as JSON.")
def report(saga: SagaType | None, limit: int, as_json: bool) -> None:
    """Show how many comparisons differ, by saga and percentage of the flag, and the latest differences."""
    with records() as opened:
        totals = [one for one in opened.shadows.totals() if saga in (None, one.saga_type)]
        found = opened.shadows.list(saga, limit)
    if as_json:
        counted = [{**asdict(one), "rate": _rate(one)} for one in totals]
        show_json({"totals": counted, "differences": [as_dict(one, *FIELDS) for one in found]})
        return
    rows = [
        (
            one.saga_type,
            f"{one.percent:g}",
            str(one.begun),
            str(one.compared),
            str(one.different),
            "-" if (rate := _rate(one)) is None else f"{rate:.1%}",
            ", ".join(f"{kind} {number}" for kind, number in one.kinds.items()) or "-",
        )
        for one in totals
    ]
    show_table(("SAGA", "FLAG %", "BEGUN", "COMPARED", "DIFFERENT", "RATE", "KINDS"), rows)
    if found:
        click.echo()
        lines = [(short(one.begun_at), one.saga_type, one.key, _told(one.differences or {})) for one in found]
        show_table(("BEGUN", "SAGA", "KEY", "DIFFERENCE"), lines)


def _rate(total: ShadowTotals) -> float | None:
    """Of those that were compared; None while there is none."""
    return total.different / total.compared if total.compared else None


def _told(differences: Mapping[str, Any]) -> str:
    """In one line: an error, or else what each side did alone."""
    for name in ("saga_error", "direct_error"):
        if name in differences:
            return f"{name}: {str(differences[name]).splitlines()[0] if differences[name] else '-'}"
    effects = differences.get("effects") or {}
    return "; ".join(f"only {side}: {', '.join(one['call'] for one in did) or '-'}" for side, did in effects.items())
