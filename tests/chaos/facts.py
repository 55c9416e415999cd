"""What the oracle judges: the effects log and the final rows, saga by saga."""

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from tests.chaos.plan import SagaPlan
from tests.harness.effects import Effect

TERMINAL = ("COMPLETED", "COMPENSATED", "CANCELLED", "FAILED")
VANISHING = timedelta(seconds=2)
"""An asynchronous claim is on disk after three times wal_writer_delay (0.2 s); with room for a busy machine."""

NOTICED = timedelta(seconds=15)
"""From a crash of PostgreSQL to reconcile's new epoch, which takes every current step for possibly begun (R13)."""


@dataclass
class Run:
    """What the suite did, beside the sagas: what excuses a trace, and nothing else does."""

    crashes: list[datetime] = field(default_factory=list)
    """When PostgreSQL crashed: claims that were not on disk may have vanished (PROTOCOL R13)."""
    killed: set[int] = field(default_factory=set)
    """Pids that the suite killed: they may have died between an effect and its report."""
    cancelled: set[str] = field(default_factory=set)
    """Sagas that were asked to cancel."""
    acknowledged: dict[str, set[str]] = field(default_factory=dict)
    """By key: the saga ids that callers got."""


@dataclass
class Case:
    """One saga: its row, its steps in order, its events in order, its rows of the effects log in order."""

    row: dict[str, Any]
    steps: dict[str, dict[str, Any]]
    events: list[dict[str, Any]]
    log: list[Effect]
    run: Run
    plan: SagaPlan | None = None

    @property
    def state(self) -> str:
        return str(self.row["state"])

    @property
    def is_child(self) -> bool:
        return self.row["parent_saga_id"] is not None

    @property
    def actions(self) -> dict[str, str]:
        return dict(self.row["context"].get("payload", {}).get("plan", {}))

    def rows(self, kind: str, step: str | None = None) -> list[Effect]:
        """Its rows of that kind."""
        return [row for row in self.log if row.kind == kind and step in (None, row.step)]

    def of(self, *types: str, step: str | None = None) -> list[dict[str, Any]]:
        """Its events of these types."""
        return [e for e in self.events if e["event_type"] in types and step in (None, e["step_name"])]

    def lost_at(self, row: Effect) -> datetime | None:
        """When the engine wrote that this row's attempt is lost."""
        for event in self.of("AttemptLost"):
            if event["payload"]["attempt_id"] == attempt_id(row):
                return event["occurred_at"]
        return None

    def is_late(self, row: Effect) -> bool:
        """Whether the attempt was already taken for lost when it wrote this row: nobody can hold that back (R20)."""
        lost = self.lost_at(row)
        return (lost is not None and lost <= row.at) or self.vanished(row)

    def vanished(self, row: Effect) -> bool:
        """Whether a crash of PostgreSQL may have swallowed the claim of this row's attempt."""
        begun = [r.at for r in self.log if attempt_id(r) == attempt_id(row)]
        known = self.lost_at(row) is not None
        return not known and any(abs(crash - min(begun)) <= VANISHING for crash in self.run.crashes if begun)

    def crashed(self) -> bool:
        """Whether PostgreSQL crashed while this saga lived, or so shortly before that reconcile noticed it then."""
        end, begin = self.row["completed_at"], self.row["started_at"] - NOTICED
        return any(begin <= c and (end is None or c <= end) for c in self.run.crashes)

    def describe(self) -> str:
        """Its story and its rows."""
        lines = [f"  {self.row['saga_type']} {self.state} plan={self.actions} error={self.row['error']}"]
        lines += [f"  {name}: {_brief(step)}" for name, step in self.steps.items()]
        happened = [
            (e["occurred_at"], f"event {e['event_type']} {e['step_name'] or ''} {e['payload']}") for e in self.events
        ]
        happened += [(r.at, f"{r.kind} {r.step} #{r.attempt} pid {r.pid} {attempt_id(r) or ''}") for r in self.log]
        lines += [f"    {at:%H:%M:%S.%f} {text}" for at, text in sorted(happened)]
        return "\n".join(lines)


def attempt_id(row: Effect) -> str | None:
    """The engine's id of the attempt that wrote this row."""
    return (row.detail or {}).get("attempt_id")


def _brief(step: dict[str, Any]) -> dict[str, Any]:
    names = ("state", "phase", "attempt", "undo_attempt", "effect_possible", "undo_rank", "lease_until", "look_at")
    return {name: step[name] for name in names if step[name] not in (None, False)}
