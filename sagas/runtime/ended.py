"""An attempt that has ended, what its commit has answered, and attempts whose commits wait for each other."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from sagas.runtime.handover import Granted, Handover
from sagas.runtime.outcomes import Outcome
from sagas.store.requests import Attempt
from sagas.types import SagaId

log = logging.getLogger(__name__)


class Report(NamedTuple):
    """What one run did. `next` is continue, undo, again, wait or end; `route` is what is to be published for it."""

    verdict: str
    saga_type: str = ""
    phase: str = ""
    next: str = "wait"
    route: Sequence[dict[str, Any]] = ()
    outcome: Outcome | None = None
    touched: str | None = None
    """Another saga that this has moved, its child or its parent; its message may be due."""
    then: Granted | None = None
    version: int = 0

    @property
    def undo(self) -> bool:
        return self.next == "undo" or (self.phase == "undo" and self.next == "again")


class Ended(NamedTuple):
    """One attempt that has ended, by its outcome."""

    saga_id: SagaId
    step: str
    attempt_id: uuid.UUID
    claim: dict[str, Any]
    outcome: Outcome
    events: Sequence[tuple[str, dict[str, Any]]] = ()
    next: Handover | None = None

    def attempt(self) -> Attempt:
        """As the store takes what is done, or has not begun; asks what it may go on to."""
        onward = self.next.onward() if self.next else None
        return Attempt(self.saga_id, self.step, self.attempt_id, self.outcome.text, self.events, onward)

    def report(self, answer: dict[str, Any]) -> Report:
        """What its commit has answered."""
        verdict = answer["verdict"]
        if verdict not in ("committed", "recorded", "held"):
            log.log(
                logging.INFO if self.outcome.kind == "unbegun" else logging.WARNING,
                "saga %s step %s: attempt %s came late (%s)",
                self.saga_id,
                self.step,
                self.attempt_id,
                verdict,
            )
        return Report(
            verdict=verdict,
            saga_type=self.claim["saga_type"],
            phase=self.claim["phase"],
            next=answer["next"],
            route=answer.get("route") or (),
            outcome=self.outcome,
            touched=answer.get("touched"),
            then=self.next.granted(answer, self.saga_id, self.step, self.outcome) if self.next else None,
            version=self.claim["version"],
        )


Hold = Callable[[Ended], None]
"""Takes what is done, to commit it later."""

HELD: dict[str, Any] = {"verdict": "held", "next": "wait"}
