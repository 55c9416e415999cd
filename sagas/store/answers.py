"""What the store answers a tick of reconcile with."""

from __future__ import annotations

from typing import Any, NamedTuple


class Backlog(NamedTuple):
    """A queue that many sagas wait in, as it was last counted."""

    waiting: int
    """Sagas that wait for a message of it."""
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
