"""The committed report of a run (docs/chaos.md), and the same as JSON."""

import subprocess
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

from tests.chaos import gaps
from tests.chaos.plan import KILLS
from tests.chaos.recovery import BUDGETS, MEANING, STARTING, Times
from tests.chaos.run import Outcome

HEAD = """\
# The chaos suite

Real workers, beat, PostgreSQL and broker; sagas whose payload says what happens in each step; processes killed, paused
and cut off at random but reproducibly by seed. An oracle outside the engine (an effects log on a server of its own that
steps write, and the final rows) is checked against the promises of the design. `make chaos` writes this page,
`make chaos-proof` plants defects that the suite must see, and a short run is part of `make test`.
"""

PROOF = "## Planted defects"
"""The page's last section; `python -m tests.chaos.proof --report` writes it, a run of seeds leaves it as it is."""


def write_section(path: Path, run: str | None = None, proof: str | None = None) -> None:
    """Replace one of the page's two parts, and keep the other."""
    old_run, mark, old_proof = (path.read_text() if path.exists() else "").partition(PROOF)
    kept = mark + old_proof if proof is None else f"{PROOF}\n\n{proof}"
    path.write_text(f"{(old_run if run is None else run).rstrip()}\n\n{kept.rstrip()}".rstrip() + "\n")


@dataclass
class Report:
    """All that one program found."""

    command: str
    sagas: int
    kills: int
    outcomes: list[Outcome] = field(default_factory=list)
    gaps: Outcome | None = None
    missed: list[str] = field(default_factory=list)
    times: list[Times] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    """Trouble of the suite itself."""

    @property
    def everything(self) -> list[Outcome]:
        return [*self.outcomes, *([self.gaps] if self.gaps else [])]

    def problems(self) -> list[str]:
        """Why this run does not pass; an empty list if it does. Recovery budgets are judged by who reads the table."""
        found = [str(violation) for outcome in self.everything for violation in outcome.violations]
        found += self.errors
        found += [f"nobody came by the gap {point!r}" for point in self.missed]
        kills = [done for outcome in self.outcomes for done in outcome.done if done.kind in KILLS]
        if kills and sum(kill.hit for kill in kills) < 0.7 * len(kills):
            found.append(f"only {sum(kill.hit for kill in kills)} of {len(kills)} kills hit a claim")
        return found

    def text(self) -> str:
        """The page."""
        problems = self.problems()
        verdict = "No violation was found." if not problems else f"{len(problems)} problems, the first: {problems[0]}"
        parts = [
            HEAD,
            f"Written by `{self.command}` at commit {_commit()}. {verdict}\n",
            *self._totals(),
            *self._gaps(),
            *self._recovery(),
        ]
        return "\n".join(parts)

    def _totals(self) -> list[str]:
        done = [one for outcome in self.outcomes for one in outcome.done]
        kinds = Counter(one.kind for one in done)
        hits = Counter(one.kind for one in done if one.hit)
        lines = ["## Seeds\n", "| seed | seconds | sagas | ends | kills (with a claim) | violations |"]
        lines.append("|---|---|---|---|---|---|")
        for outcome in self.outcomes:
            kills = [one for one in outcome.done if one.kind in KILLS]
            ends = ", ".join(f"{count} {state}" for state, count in sorted(outcome.states.items()))
            killed = f"{len(kills)} ({sum(one.hit for one in kills)})"
            total = sum(outcome.states.values())
            lines.append(
                f"| {outcome.seed} | {outcome.seconds:.0f} | {total} | {ends} | {killed} | {len(outcome.violations)} |"
            )
        lines += ["\n| disruption | times | with a claim |", "|---|---|---|"]
        lines += [
            f"| {kind} | {count} | {hits[kind] if kind in KILLS else '-'} |" for kind, count in kinds.most_common()
        ]
        effects, events = Counter[str](), Counter[str]()
        for outcome in self.outcomes:
            effects += outcome.effects
            events += outcome.events
        lines += ["\n| what steps did | times |", "|---|---|", *_rows(effects)]
        lines += ["\n| event of the engine | times |", "|---|---|", *_rows(events)]
        rules = Counter(violation.rule for outcome in self.everything for violation in outcome.violations)
        lost = sum(count for rule, count in rules.items() if rule.startswith(("p1_", "p2_", "p14")))
        doubled = sum(count for rule, count in rules.items() if rule.startswith(("p3_", "p4_", "p11")))
        restarts = sum(outcome.restarts for outcome in self.outcomes)
        lines.append(f"\nLost: {lost}. Doubled beyond the step's delivery: {doubled}. Other violations: {dict(rules)}.")
        lines.append(f"Processes that ended by themselves and were started again: {restarts}.\n")
        return lines

    def _gaps(self) -> list[str]:
        if self.gaps is None:
            return []
        hit = len(gaps.POINTS) - len(self.missed)
        lines = ["## Gaps between commits\n", f"A process killed itself at {hit} of {len(gaps.POINTS)} points:\n"]
        return [*lines, ", ".join(f"`{point}`" for point in gaps.POINTS if point not in self.missed) + ".\n"]

    def _recovery(self) -> list[str]:
        if not self.times:
            return []
        lines = ["## Recovery with the default settings\n", "| kind | observations | p50 | p95 | max | budget |"]
        lines.append("|---|---|---|---|---|---|")
        for times in self.times:
            figures = f"{times.quantile(0.5):.2f} | {times.quantile(0.95):.2f} | {max(times.seconds):.2f}"
            budget = f"{BUDGETS[times.kind]:g} {'kept' if times.kept else 'NOT kept'}"
            lines.append(f"| {MEANING[times.kind]} | {len(times.seconds)} | {figures} | {budget} |")
        if STARTING:
            lines.append(f"\nSeconds; a restarted worker itself took {median(STARTING):.2f} (median) to consume.\n")
        return lines

    def data(self) -> dict[str, Any]:
        """For `--json`."""
        return {
            "command": self.command,
            "seeds": [
                {
                    "seed": outcome.seed,
                    "seconds": outcome.seconds,
                    "states": outcome.states,
                    "effects": outcome.effects,
                    "events": outcome.events,
                    "restarts": outcome.restarts,
                    "disruptions": [{"kind": one.kind, "hit": one.hit, "detail": one.detail} for one in outcome.done],
                    "violations": [str(violation) for violation in outcome.violations],
                }
                for outcome in self.everything
            ],
            "gaps_missed": self.missed,
            "recovery": {times.kind: times.seconds for times in self.times},
            "problems": self.problems(),
        }


def _commit() -> str:
    words = ["git", "rev-parse", "--short", "HEAD"]
    return subprocess.run(words, capture_output=True, text=True, check=False).stdout.strip() or "unknown"


def _rows(counts: Counter[str]) -> list[str]:
    return [f"| {name} | {count} |" for name, count in counts.most_common()]
