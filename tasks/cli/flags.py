"""`hodei flags`: which way the sagas' work takes."""

from __future__ import annotations

import click

from models import FeatureFlag
from sagas import SagaType
from sagas.cli.report import show_table
from tasks.cli.access import as_dict, records, short, show_json
from tasks.cli.submission import refuse

FIELDS = ("saga", "enabled", "percent", "shadow", "actor", "reason", "changed_at")


@click.group()
def flags() -> None:
    """Say which of the sagas' work goes through them, and which past them."""


@flags.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print it as JSON.")
def list_flags(as_json: bool) -> None:
    """List the flags of the sagas, and who changed them last."""
    with records() as opened:
        found = opened.flags.list()
    if as_json:
        show_json([as_dict(flag, *FIELDS) for flag in found])
        return
    rows = [(*_row(flag), short(flag.changed_at), flag.actor, flag.reason) for flag in found]
    show_table(("SAGA", "ENABLED", "PERCENT", "SHADOW", "CHANGED", "BY", "REASON"), rows)


@flags.command("set")
@click.argument("saga", type=click.Choice(list(SagaType), case_sensitive=False))
@click.option("--enabled/--disabled", "enabled", default=None, help="Whether any of it goes through the saga.")
@click.option("--percent", type=float, metavar="0..100", help="Of the keys, always the same ones, if it is enabled.")
@click.option("--shadow/--no-shadow", "shadow", default=None, help="Run the saga without effect beside what goes past.")
@click.option("--actor", default="cli", show_default=True, help="Who changes it.")
@click.option("--reason", default="none given", show_default=True, help="Kept with the flag and its event.")
@click.option("--json", "as_json", is_flag=True, help="Print it as JSON.")
def set_flag(
    saga: SagaType,
    enabled: bool | None,
    percent: float | None,
    shadow: bool | None,
    actor: str,
    reason: str,
    as_json: bool,
) -> None:
    """Change a flag: every process sees it within seconds; work that has begun ends on its way.

    Past its recovery a job whose worker is lost waits for it to come back, or to be cancelled.
    """
    if enabled is None and percent is None and shadow is None:
        raise refuse(ValueError("nothing to change: say --enabled, --disabled, --percent, --shadow or --no-shadow"))
    try:
        with records() as opened:
            changed = opened.flags.set(
                SagaType(saga), enabled=enabled, percent=percent, shadow=shadow, actor=actor, reason=reason
            )
            opened.session.refresh(changed)
    except ValueError as error:
        raise refuse(error) from None
    if as_json:
        show_json(as_dict(changed, *FIELDS))
        return
    show_table(("SAGA", "ENABLED", "PERCENT", "SHADOW"), [_row(changed)])


def _row(flag: FeatureFlag) -> tuple[str, str, str, str]:
    return flag.saga, "yes" if flag.enabled else "no", f"{flag.percent:g}", "yes" if flag.shadow else "no"
