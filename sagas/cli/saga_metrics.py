"""`hodei saga metrics`: how many sagas were started, and how they ended, counted over their rows."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import click

from sagas.cli.saga_engine import current_engine, reading
from sagas.types import SagaState

if TYPE_CHECKING:
    import sqlalchemy as sa

ENDED = {
    "sagas_completed": SagaState.COMPLETED,
    "sagas_compensated": SagaState.COMPENSATED,
    "sagas_cancelled": SagaState.CANCELLED,
    "sagas_failed": SagaState.FAILED,
}
NAMES = ("sagas_started", *ENDED)
Counts = dict[str, int]


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print it as JSON.")
def metrics(as_json: bool) -> None:
    """Count the sagas: started, completed, compensated, cancelled, failed; without shadows and what was purged."""
    from sagas.cli.report import show_table

    by_type = count_sagas(current_engine().sql)
    total = {name: sum(counts[name] for counts in by_type.values()) for name in NAMES}
    if as_json:
        click.echo(json.dumps({**total, "by_type": by_type}, indent=2))
        return
    rows = [(saga, *(str(counts[name]) for name in NAMES)) for saga, counts in [*by_type.items(), ("all", total)]]
    show_table(("SAGA", *(name.removeprefix("sagas_").upper() for name in NAMES)), rows)


def count_sagas(sql: sa.Engine) -> dict[str, Counts]:
    """The counts of each type, by name. They read all rows: for a person, or every minute, not every second."""
    import sqlalchemy as sa

    from sagas.store.schema import saga_instances

    saga = saga_instances.c
    ended = [sa.func.count().filter(saga.state == str(state)).label(name) for name, state in ENDED.items()]
    query = sa.select(saga.saga_type, sa.func.count().label("sagas_started"), *ended)
    query = query.where(saga.shadow.is_(False)).group_by(saga.saga_type).order_by(saga.saga_type)
    with reading(), sql.connect() as connection:
        rows = connection.execute(query).mappings().all()
    return {row["saga_type"]: {name: row[name] for name in NAMES} for row in rows}
