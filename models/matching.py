"""Which workers and providers meet a job's requirements: one rule, in SQL."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Float, func
from sqlalchemy.dialects.postgresql import JSONB

from models.tables import Provider, Worker
from sagas.jobs.requirements import Requirements, Resources


def worker_meets(asked: Requirements) -> list[ColumnElement[bool]]:
    """A worker has its provider's labels besides its own; what it was not given it does not have."""
    spec = Worker.spec
    labels = Provider.labels.op("||", return_type=JSONB)(func.coalesce(spec["labels"], func.jsonb_build_object()))
    given = (func.coalesce(spec["resources"][name].as_float(), 0.0) for name in ("cpu", "memory"))
    return _meets(labels, *given, asked=asked)


def provider_meets(asked: Requirements) -> list[ColumnElement[bool]]:
    """Whether it could make such a worker if it had made no other; a provider without a number has no limit."""
    cpu, memory = (func.coalesce(column, math.inf, type_=Float) for column in (Provider.cpu, Provider.memory))
    return [Provider.capacity > 0, *_meets(Provider.labels, cpu, memory, asked=asked)]


def _meets(labels: Any, cpu: Any, memory: Any, *, asked: Requirements) -> list[ColumnElement[bool]]:
    wanted = asked.resources
    return [
        labels.contains(dict(asked.labels)),
        *([cpu >= wanted.cpu] if wanted.cpu is not None else []),
        *([memory >= float(wanted.memory)] if wanted.memory is not None else []),
    ]


@dataclass(frozen=True)
class Room:
    """What a provider has left: slots, cores, bytes."""

    slots: int
    cpu: float = math.inf
    memory: float = math.inf

    @classmethod
    def of(cls, provider: Provider, given: Iterable[Resources]) -> Room:
        """After what was given away; a worker for which nothing was asked takes a slot and nothing else."""
        away = list(given)
        cpu, memory = (math.inf if limit is None else limit for limit in (provider.cpu, provider.memory))
        return cls(
            provider.capacity - len(away),
            cpu - sum(one.cpu or 0 for one in away),
            memory - sum(one.memory or 0 for one in away),
        )

    def takes(self, asked: Resources) -> bool:
        """Whether one more worker fits."""
        return self.slots > 0 and (asked.cpu or 0) <= self.cpu and (asked.memory or 0) <= self.memory
