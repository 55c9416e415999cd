"""Reads the rows of a finished run into cases."""

from collections import defaultdict
from typing import Any

from tests.chaos.facts import Case, Run
from tests.chaos.plan import SagaPlan
from tests.chaos.system import System


def collect(system: System, run: Run, plans: list[SagaPlan]) -> list[Case]:
    """Every saga of the database."""
    query = system.query
    steps: dict[str, dict[str, dict[str, Any]]] = defaultdict(dict)
    for step in query("SELECT * FROM saga_steps ORDER BY saga_id, step_order"):
        steps[str(step["saga_id"])][step["step_name"]] = step
    events: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for event in query("SELECT * FROM saga_events WHERE saga_id IS NOT NULL ORDER BY event_id"):
        events[str(event["saga_id"])].append(event)
    log = defaultdict(list)
    for row in system.effects.find():
        log[row.saga_id].append(row)
    by_key = {plan.key: plan for plan in plans}
    return [
        Case(row, steps[saga], events[saga], log[saga], run, by_key.get(_key(row)))
        for row in query("SELECT * FROM saga_instances ORDER BY started_at")
        for saga in [str(row["saga_id"])]
    ]


def _key(row: dict[str, Any]) -> str:
    """`SagaPlan.keyed` says where it is."""
    return str(row["idempotency_key"] or row["correlation_id"])
