"""Packs: one message brings several sagas that `start_many` has started together (decision 0014)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sagas.errors import UnknownSaga
from sagas.runtime.engine import Engine
from sagas.runtime.stencil import heard
from sagas.store.requests import StartRequest

MOST = 10
"""Sagas that one message brings at most."""
SPREAD = 64
"""Messages at least, where there are as many sagas: so many processes begin at once."""


def size(engine: Engine, saga_type: str, count: int) -> int:
    """How many of so many sagas one message may bring; 1 where somebody could see it."""
    if engine.settings.continuation_ms <= 0 or heard(engine.app):
        return 1
    try:
        saga = engine.registry.latest(saga_type)
    except UnknownSaga:
        pass  # another process's saga: its worker takes the pack apart
    else:
        if not saga.continuation or not saga.steps[0].continuation or saga.steps[0].rate_limit:
            return 1
    return max(1, min(MOST, count // SPREAD))


def packed(requests: Sequence[StartRequest], size: int) -> list[StartRequest]:
    """Those requests (of one transaction), each so many of them to be brought by the first one's message."""
    return [
        one if number % size == 0 else one._replace(brought_by=requests[number - number % size].saga_id)
        for number, one in enumerate(requests)
    ]


def packs(
    requests: Sequence[StartRequest], answers: Sequence[Mapping[str, Any]]
) -> list[tuple[Mapping[str, Any], list[str]]]:
    """The answers that need a message, each with the sagas that it brings: those just made that have the same route.

    What was there before, or came earlier in the same call, has its message.
    """
    made = {answer["saga_id"]: answer for answer in answers if answer["created"]}
    brings: dict[str, list[str]] = {}
    for request, answer in zip(requests, answers, strict=True):
        if not answer["created"]:
            continue
        first = made.get(str(request.brought_by))
        if first and answer["route"] == first["route"]:
            brings[first["saga_id"]].append(answer["saga_id"])
        else:
            brings[answer["saga_id"]] = []
    return [(made[first], others) for first, others in brings.items()]
