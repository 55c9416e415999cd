"""What a port is asked to do, written down, so that two ways of doing one thing can be compared."""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import Callable
from functools import wraps
from typing import Any

from sagas.jobs.types import AssignmentId, JobCommand, WorkerId, WorkerSpec

EFFECTS = frozenset(
    {
        *("reserve", "create_worker", "created", "ready", "retire", "destroy_worker", "unregister"),
        *("assign", "send_run_job", "announce_assigned", "unassign"),
    }
)
"""The methods of ports that change something; the others only ask."""

Note = Callable[[uuid.UUID, dict[str, Any]], object]


class Noted:
    """A port whose effects are told to `note(run_id, effect)`, after each of them has worked.

    The run is the assignment, or else the worker, that the effect is about.
    """

    def __init__(self, port: Any, note: Note) -> None:
        self._port = port
        self._note = note

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._port, name)
        if name not in EFFECTS:
            return method

        @wraps(method)
        def call(*args: Any, **kwargs: Any) -> Any:
            answer = method(*args, **kwargs)
            said = (*args, *kwargs.values())
            ids = [one for kind in (AssignmentId, WorkerId) for one in said if isinstance(one, kind)]
            if ids:
                self._note(ids[0], describe(name, *said))
            return answer

        return call


def noted(port: Any, done: list[dict[str, Any]]) -> Any:
    """The port; what it does is appended to the list."""
    return Noted(port, lambda _, effect: done.append(effect))


def describe(name: str, *args: Any) -> dict[str, Any]:
    """The effect as JSON. A command is told by its digest, tokens and the provider's own names not at all."""
    return {"call": name, "with": [plain for arg in args if (plain := _plain(arg)) is not None]}


def _plain(value: Any) -> Any:
    if isinstance(value, uuid.UUID):
        return str(value)
    if isinstance(value, WorkerSpec):
        return value.to_json()
    if isinstance(value, JobCommand):
        text = json.dumps(value.to_json(), sort_keys=True)
        return f"command {hashlib.sha256(text.encode()).hexdigest()[:16]}"
    return None
