"""What the store is asked with: who claims, and what is to be started."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from sagas.jsontext import to_json
from sagas.settings import LEASE_MARGIN
from sagas.types import SagaId

SHADOW = "sagas.shadow"
"""How `saga_start` is told, among the metadata, that a saga is a shadow."""


@dataclass(frozen=True)
class Claimant:
    """Who claims: node name, and the process so that its death can be proven (`host` is boot id and pid namespace)."""

    node: str
    host: str | None = None
    pid: int | None = None
    started: float | None = None
    incarnation: uuid.UUID | None = None
    """The worker's main process, whose heartbeat speaks for this claim; None for a script."""

    def parameters(self) -> tuple[Any, ...]:
        """As `saga_claim` takes them, with the margin (seconds) that its lease has."""
        node = str(self.incarnation) if self.incarnation else None
        return (self.node, self.host, self.pid, self.started, LEASE_MARGIN, node)


class Onward(NamedTuple):
    """What a commit may claim in the same statement and the same way, for the same process: the next of these steps
    (of their undos), as this attempt.
    """

    steps: tuple[str, ...]
    attempt_id: uuid.UUID


class Attempt(NamedTuple):
    """One of several for `Store.commit_many`: done, or claimed and not begun."""

    saga_id: SagaId
    step: str
    attempt_id: uuid.UUID
    output: str | None = None
    """Of what is done, as JSON; None: it has not begun."""
    events: Sequence[tuple[str, dict[str, Any]]] = ()
    onward: Onward | None = None


class StartRequest(NamedTuple):
    """What `start` needs. `published`: the caller publishes the first message after its commit.

    `shadow`: its steps get the engine's `shadow_ports`, which have no effect outside.
    """

    saga_type: str
    payload: Mapping[str, Any]
    idempotency_key: str | None = None
    correlation_id: str | None = None
    actor: str | None = None
    saga_id: SagaId | None = None
    metadata: Mapping[str, Any] | None = None
    version: int | None = None
    published: bool = False
    shadow: bool = False
    brought_by: SagaId | None = None
    """The saga whose first message brings this one, too (`sagas.runtime.packs`); of `start_many` only."""
    route: Sequence[Mapping[str, Any]] | None = None
    """Of the message that is published already, for this id; of `start` only."""

    def parameters(self) -> tuple[Any, ...]:
        return (
            self.saga_type,
            to_json(self.payload),
            self.idempotency_key,
            self.correlation_id,
            self.actor,
            str(self.saga_id or SagaId.new()),
            to_json({**(self.metadata or {}), **({SHADOW: True} if self.shadow else {})}),
            self.version,
            self.published,
            to_json(self.route) if self.route else None,
        )
