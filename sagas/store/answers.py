"""What the store answers with: grants of claims, and what a tick of reconcile is told."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

PLAIN_GRANT: Mapping[str, Any] = {
    "verdict": "granted",
    "phase": "forward",
    "output": None,
    "compensation_data": None,
    "transactional": False,
}
"""What a claim of a step answers unless it says otherwise (`saga_claim_forward`)."""


class Backlog(NamedTuple):
    """A queue that many sagas wait in, as it was last counted."""

    waiting: int
    """Sagas that wait for a message of it."""
    needed: int
    """Messages that those need: one may bring several."""
    depth: int
    """Messages that were in it."""
    age: float
    """Seconds since then, by the database's clock."""


class Looked(NamedTuple):
    """One batch of what was due."""

    looked_at: int
    found: list[dict[str, Any]]
    """Of those that have something to be published or told of: `saga_look`'s answers."""
    backlogs: dict[str, Backlog]
