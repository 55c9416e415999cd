"""What a saga is made of: ids, types and states, with the edges of both state machines.

The edges are those of the design (section 5, and "edges spelled out" of the protocol page); every UPDATE of
the store says them again in its WHERE.
"""

from __future__ import annotations

import os
import re
import time
import uuid
from enum import StrEnum
from typing import Final, Self

from sagas.errors import DefinitionError

NAME: Final = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,59}")
RESERVED_SAGAS: Final = frozenset({"sagas", "workers", "jobs", "celery", "hodei"})
RESERVED_STEPS: Final = frozenset({"compensate"})


class SagaId(uuid.UUID):
    """The id of one saga; a str or a `uuid.UUID` of the same value is accepted wherever one is asked for."""

    def __init__(self, value: str | uuid.UUID) -> None:
        if isinstance(value, uuid.UUID):
            super().__init__(int=value.int)
        else:
            super().__init__(hex=str(value))

    @classmethod
    def new(cls) -> Self:
        """Of version 7 (RFC 9562): what is new lies together in every index, however much there is from before."""
        milliseconds = time.time_ns() // 1_000_000
        value = (milliseconds << 80) | int.from_bytes(os.urandom(10), "big")
        return cls(uuid.UUID(int=(value & ~(0xF << 76 | 0b11 << 62)) | 7 << 76 | 0b10 << 62))


class SagaStepId(SagaId):
    """The id of one step's row."""


class SagaType(StrEnum):
    """The platform's own sagas; a user's type is its name, a plain str."""

    PROVISIONING = "provisioning"
    EXECUTION = "execution"
    RECOVERY = "recovery"


class SagaState(StrEnum):
    PENDING = "PENDING"
    IN_PROGRESS = "IN_PROGRESS"
    COMPENSATING = "COMPENSATING"
    COMPLETED = "COMPLETED"
    COMPENSATED = "COMPENSATED"
    CANCELLED = "CANCELLED"
    FAILED = "FAILED"

    @property
    def is_terminal(self) -> bool:
        return self in TERMINAL

    def can_transition_to(self, other: SagaState) -> bool:
        """Whether the edge exists at all; who may take it (a person, a parent) is the store's business."""
        return other in SAGA_EDGES[self]


TERMINAL: Final = frozenset({SagaState.COMPLETED, SagaState.COMPENSATED, SagaState.CANCELLED, SagaState.FAILED})

SAGA_EDGES: Final[dict[SagaState, frozenset[SagaState]]] = {
    SagaState.PENDING: frozenset({SagaState.IN_PROGRESS, SagaState.CANCELLED}),
    SagaState.IN_PROGRESS: frozenset({SagaState.COMPLETED, SagaState.COMPENSATING, SagaState.FAILED}),
    SagaState.COMPENSATING: frozenset({SagaState.COMPENSATED, SagaState.CANCELLED, SagaState.FAILED}),
    SagaState.COMPLETED: frozenset({SagaState.COMPENSATING}),
    SagaState.COMPENSATED: frozenset(),
    SagaState.CANCELLED: frozenset(),
    SagaState.FAILED: frozenset({SagaState.COMPENSATING, SagaState.IN_PROGRESS}),
}


class StepState(StrEnum):
    PENDING = "PENDING"
    IN_PROGRESS = "IN_PROGRESS"
    WAITING = "WAITING"
    COMPLETED = "COMPLETED"
    FAILED = "FAILED"
    UNKNOWN = "UNKNOWN"
    COMPENSATING = "COMPENSATING"
    COMPENSATED = "COMPENSATED"
    SKIPPED = "SKIPPED"

    def can_transition_to(self, other: StepState) -> bool:
        return other in STEP_EDGES[self]


STEP_EDGES: Final[dict[StepState, frozenset[StepState]]] = {
    StepState.PENDING: frozenset({StepState.IN_PROGRESS, StepState.SKIPPED, StepState.COMPENSATING}),
    StepState.IN_PROGRESS: frozenset(
        {StepState.COMPLETED, StepState.FAILED, StepState.UNKNOWN, StepState.WAITING, StepState.PENDING}
    ),
    StepState.WAITING: frozenset(
        {StepState.IN_PROGRESS, StepState.COMPLETED, StepState.FAILED, StepState.COMPENSATING, StepState.SKIPPED}
    ),
    StepState.UNKNOWN: frozenset({StepState.COMPLETED, StepState.PENDING, StepState.COMPENSATING, StepState.FAILED}),
    StepState.COMPLETED: frozenset({StepState.COMPENSATING}),
    StepState.FAILED: frozenset({StepState.COMPENSATING, StepState.PENDING, StepState.SKIPPED}),
    StepState.COMPENSATING: frozenset({StepState.COMPENSATED, StepState.FAILED}),
    StepState.COMPENSATED: frozenset({StepState.COMPENSATING}),
    StepState.SKIPPED: frozenset(),
}


def check_name(kind: str, name: str, reserved: frozenset[str]) -> str:
    """Refuse a name that could not be a Celery task's, a queue's or a key's part."""
    if not isinstance(name, str) or not NAME.fullmatch(name):
        raise DefinitionError(
            f"{kind} name {name!r}: use a letter, then letters, digits and underscores, at most 60 characters"
        )
    if name in reserved:
        raise DefinitionError(f"{kind} name {name!r} is reserved; choose another")
    return name
