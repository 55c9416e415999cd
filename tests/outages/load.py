"""A light load whose every attempt is planned, and what must be true of it after any trouble of the servers."""

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from sagas import SagaClient
from sagas.client import SagaHandle
from tests.harness.database import Query
from tests.harness.effects import Effects
from tests.harness.scenario import STEPS, plan
from tests.harness.wait import wait_for

SLOW = "slow:0.4"
ONE_EACH = [1, 1, 1, 1]


@dataclass(frozen=True)
class Kind:
    """One kind of saga of the load; `attempts` and `undos` by step, `once`: the steps that must not act twice."""

    saga: str
    payload: dict[str, Any]
    outcome: str = "COMPLETED"
    attempts: list[int] = field(default_factory=lambda: ONE_EACH)
    undos: list[int] = field(default_factory=lambda: [0, 0, 0, 0])
    once: tuple[str, ...] = ()


KINDS = (
    Kind("scenario", plan(one=SLOW, two=SLOW, three=SLOW)),
    Kind("scenario_once", plan(one=SLOW, three=SLOW), once=STEPS),
    Kind("scenario", plan(two="flaky:2"), attempts=[1, 3, 1, 1]),
    Kind("scenario", plan(two=SLOW, four="fail", undo_two=SLOW), "COMPENSATED", undos=[1, 1, 1, 0]),
    Kind("scenario_pivot", plan(three=SLOW)),
)


class Load:
    """Some sagas of every kind, started at once."""

    def __init__(self, client: SagaClient, query: Query, effects: Effects, each: int) -> None:
        self._query = query
        self._effects = effects
        self.sagas: list[tuple[Kind, SagaHandle]] = [
            (kind, client.start(kind.saga, kind.payload)) for _ in range(each) for kind in KINDS
        ]

    def wait_until_half(self, timeout: float = 60.0) -> None:
        """Until half of the sagas have acted, and not half of all that will act."""
        count = "SELECT count(DISTINCT saga_id) FROM effects WHERE kind = 'effect' AND saga_id = ANY (%s)"
        ids = [str(handle.saga_id) for _, handle in self.sagas]
        wait_for(lambda: self._effects.query.value(count, ids) * 2 >= len(self.sagas), timeout)

    def wait(self, timeout: float = 120.0) -> None:
        """Until all are at their end."""
        open_ = "SELECT count(*) FROM saga_instances WHERE completed_at IS NULL AND saga_id = ANY (%s::uuid[])"
        ids = [str(handle.saga_id) for _, handle in self.sagas]
        wait_for(lambda: self._query.value(open_, ids) == 0, timeout, lambda: f"all end; {self.problems()}")

    def problems(self, crashed: bool = False) -> list[str]:
        """What is not as planned. `crashed`: PostgreSQL forgot claims that had not reached its disk, which are of
        idempotent steps only (R13): such a step may run once more.
        """
        found: list[str] = []
        for kind, handle in self.sagas:
            found += [f"{kind}: {line}" for line in self._of_one(kind, handle, crashed)]
        return found

    def _of_one(self, kind: Kind, handle: SagaHandle, crashed: bool) -> list[str]:
        status = handle.status()
        found = [] if status.state == kind.outcome else [f"is {status.state} ({status.error})"]
        rows = self._query(
            "SELECT step_name, attempt, undo_attempt FROM saga_steps WHERE saga_id = %s ORDER BY step_order",
            str(handle.saga_id),
        )
        attempts = [row["attempt"] for row in rows]
        if attempts != kind.attempts:
            found.append(f"attempts {attempts}")
        if [row["undo_attempt"] for row in rows] != kind.undos:
            found.append(f"undo attempts {[row['undo_attempt'] for row in rows]}")
        acted = Counter((row.kind, row.step) for row in self._effects.find(saga_id=handle.saga_id))
        for step, undos in zip(STEPS, kind.undos, strict=True):
            effect = step != "four" or kind.outcome == "COMPLETED"
            found += self._count(acted, "effect", step, int(effect), crashed and step not in kind.once)
            found += self._count(acted, "undo", step, undos, crashed)
        left = self._effects.standing(handle.saga_id)
        if left != (list(STEPS) if kind.outcome == "COMPLETED" else []):
            found.append(f"left in the world: {left}")
        return found

    @staticmethod
    def _count(acted: Counter[Any], what: str, step: str, planned: int, more: bool) -> list[str]:
        count = acted[(what, step)]
        good = planned <= count <= planned + 1 if more and planned else count == planned
        return [] if good else [f"{count} x {what} {step} instead of {planned}"]
