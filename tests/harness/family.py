"""A saga with a child: `one`, then the whole `scenario` saga as its step `kid`, then `four`.

`{"plan": {...}, "kid": {"plan": {...}}}` is the payload; plans are those of `tests.harness.scenario`.
"""

from typing import Any

from sagas import Saga
from tests.harness.scenario import PATIENCE, execute, plan, scenario, undo

__all__ = ["family", "relatives", "scenario"]

family = Saga("family")
family.step(name="one", retry=PATIENCE, timeout=20)(execute).compensation(retry=PATIENCE)(undo)
family.child("kid", "scenario", payload=lambda ctx: ctx.payload["kid"], retry=PATIENCE)
family.step(name="four", retry=PATIENCE, timeout=20)(execute).compensation(retry=PATIENCE)(undo)


def relatives(kid: dict[str, str] | None = None, **own: str) -> dict[str, Any]:
    """The payload of a family."""
    return {**plan(**own), "kid": plan(**(kid or {}))}
