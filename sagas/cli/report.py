"""Tables for the terminal: plain text, one line a row, nothing cut, so that addresses can be copied."""

from __future__ import annotations

from collections.abc import Sequence

import click

from sagas.cli.servers import without_password
from sagas.cli.system import Home, System


def show_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print rows under bold column heads, each column as wide as its widest cell."""
    widths = [max(len(row[i]) for row in (columns, *rows)) for i in range(len(columns))]
    for number, row in enumerate((columns, *rows)):
        line = "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        click.secho(line, bold=number == 0)


def show_system(home: Home, system: System) -> None:
    """Where the parts of a running system are."""
    show_table(
        ("PART", "WHERE"),
        [
            ("PostgreSQL", without_password(system.database_url)),
            ("broker", without_password(system.broker_url)),
            ("Flower", system.flower_url or "not started"),
            *(("node", node) for node in system.nodes),
            ("logs", str(home.logs)),
        ],
    )
