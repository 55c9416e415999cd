"""Sagas for people: tables with this machine's own time."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import click

from sagas.cli.report import show_table

HEAD = [
    "saga_id",
    "saga_type",
    "version",
    "state",
    "error",
    "correlation_id",
    "actor",
    "idempotency_key",
    "started_at",
    "completed_at",
    "wake_at",
    "deadline",
    "paused_at",
    "pause_reason",
    "shadow",
]


def render_sagas(sagas: Sequence[Mapping[str, Any]]) -> None:
    """One line a saga."""
    columns = ("SAGA", "TYPE", "STATE", "STEP", "STARTED", "ENDED", "ERROR")
    rows = [
        (
            one["saga_id"],
            one["saga_type"] + (" (shadow)" if one["shadow"] else ""),
            one["state"],
            one["step"] or "-",
            _time(one["started_at"]),
            _time(one["completed_at"]),
            _line(one["error"]),
        )
        for one in sagas
    ]
    show_table(columns, rows)


def render_saga(saga: Mapping[str, Any]) -> None:
    """One saga: what it is, its steps, its events, what is outstanding."""
    show_table(("SAGA", ""), [(name, _cell(name, saga[name])) for name in HEAD if saga[name] not in (None, False)])
    click.echo()
    show_table(("STEP", "STATE", "ATTEMPT", "UNDO", "STARTED", "ENDED", "ERROR"), [_step(one) for one in saga["steps"]])
    click.echo()
    show_table(("TIME", "EVENT", "STEP", "ACTOR", "DETAIL"), [_event(one) for one in saga["events"]])
    click.echo()
    if saga["cancel_requested"]:
        click.echo(f"cancel requested: {_detail(saga['cancel_requested'])}")
    if not saga["outstanding"]:
        click.echo("outstanding: nothing")
    for entry in saga["outstanding"]:
        click.secho(f"outstanding: {_detail(entry)}", fg="red")


def _step(step: Mapping[str, Any]) -> tuple[str, ...]:
    state = step["state"] + (" (effect possible)" if step["effect_possible"] else "")
    attempts = (str(step["attempt"]), str(step["undo_attempt"]))
    times = (_time(step["started_at"]), _time(step["completed_at"]))
    return (step["step_name"], state, *attempts, *times, _line(step["error"]))


def _event(event: Mapping[str, Any]) -> tuple[str, ...]:
    who = (event["step_name"] or "-", event["actor"] or "-")
    return (_time(event["occurred_at"], "milliseconds"), event["event_type"], *who, _line(_detail(event["payload"])))


def _cell(name: str, value: Any) -> str:
    if name == "shadow":
        return "it runs without effect, to be compared"
    return _time(value) if name.endswith("_at") or name == "deadline" else _line(str(value))


def _time(text: str | None, precision: str = "seconds") -> str:
    return datetime.fromisoformat(text).astimezone().replace(tzinfo=None).isoformat(" ", precision) if text else "-"


def _detail(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False) if value else ""


def _line(text: str | None) -> str:
    """One line of a cell, whatever is in it."""
    return " ".join((text or "-").split())
