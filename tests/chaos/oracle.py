"""The oracle: the promises of DESIGN section 3, checked on what steps really did and on what was written about it."""

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from tests.chaos import rules_effects, rules_families, rules_records
from tests.chaos.facts import Case, Run

Rule = Callable[[Case], Iterator[str]]


@dataclass(frozen=True)
class Violation:
    """One broken promise."""

    rule: str
    saga_id: str
    text: str
    story: str = ""

    def __str__(self) -> str:
        return f"{self.rule}: saga {self.saga_id}: {self.text}\n{self.story}"


RULES: tuple[Rule, ...] = (*rules_effects.RULES, *rules_records.RULES)


def judge(cases: list[Case], run: Run) -> list[Violation]:
    """Every violation; an empty list if all promises were kept."""
    found = [
        Violation(rule.__name__, str(case.row["saga_id"]), text, case.describe())
        for case in cases
        for rule in RULES
        for text in rule(case)
    ]
    found += [
        Violation(rule.__name__, str(parent.row["saga_id"]), text, "\n".join(c.describe() for c in (parent, *kids)))
        for parent, kids in rules_families.families(cases)
        for rule in rules_families.RULES
        for text in rule(parent, kids)
    ]
    return [*found, *_keys(cases, run)]


def _keys(cases: list[Case], run: Run) -> Iterator[Violation]:
    """P1 and P11: every acknowledged start is there, and one key is one saga."""
    there = {str(case.row["saga_id"]) for case in cases}
    counts = Counter(
        (case.row["saga_type"], case.row["idempotency_key"]) for case in cases if case.row["idempotency_key"]
    )
    for (_, key), count in counts.items():
        if count > 1:
            yield Violation("p11_one_saga_per_key", key, f"{count} sagas have this key")
    for key, ids in run.acknowledged.items():
        if len(ids) > 1:
            yield Violation("p11_one_saga_per_key", key, f"its callers were told {sorted(ids)}")
        for lost in ids - there:
            yield Violation("p1_durable_start", lost, f"start({key!r}) had returned, and the saga is not there")
