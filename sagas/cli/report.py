"""Tables for the terminal."""

from __future__ import annotations

from collections.abc import Iterable

from sagas.cli.system import Home, System


def show_table(title: str, columns: Iterable[str], rows: Iterable[Iterable[str]]) -> None:
    """Print a table; cells are folded, never cut, so that addresses can be copied."""
    from rich.console import Console
    from rich.table import Table

    table = Table(title=title, title_justify="left")
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*row)
    Console(highlight=False, markup=False).print(table)


def show_system(home: Home, system: System) -> None:
    """Where the parts of a running system are."""
    rows = [
        ("PostgreSQL", system.database_url if "postgres" in system.embedded else "as HODEI_DATABASE_URL says"),
        ("broker", system.broker_url if "valkey" in system.embedded else "as HODEI_BROKER_URL says"),
        ("Flower", system.flower_url or "not started"),
        ("nodes", ", ".join(system.nodes)),
        ("supervisor", f"pid {system.supervisor_pid}"),
        ("logs", str(home.logs)),
    ]
    show_table("Hodei is up", ("part", "where"), rows)
