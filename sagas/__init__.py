"""Hodei Sagas: durable sagas for people who already run Celery.

A saga is a business transaction of several steps over several systems; when a step fails for good, what was done
is undone in reverse. Each step is a Celery task, chained, with a `link_error` compensation; PostgreSQL holds the
durable record of every saga and step; beat drives reconciliation.

    start ──► PENDING ──► IN_PROGRESS ──────────────► COMPLETED
                 │             │  a step fails for good
                 │             ▼
                 │        COMPENSATING ──► COMPENSATED | CANCELLED     (FAILED: an undo failed, a person decides)
                 └──► CANCELLED

One step, whoever runs it (`sagas.runtime.runner`): **claim** (one SQL function, gives the right to write under a
random attempt id) → **run** the step's own code → **commit** (one SQL function, refused unless the attempt id is
still the current one). Messages are hints: the chain, `link_error` and countdowns only save time, and
`sagas.reconcile` moves whatever should have moved by now.

What it does not do: exactly-once effects outside PostgreSQL (a step is at least once, or at most once with
`idempotent=False`), `async def` steps, general graphs, event sourcing.

Importing `sagas` loads neither Celery nor SQLAlchemy; `SagaClient` and `install` do when they are used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from sagas.context import SagaContext
from sagas.definition import Saga
from sagas.errors import (
    BrokerUnavailable,
    CancelSaga,
    ConfigurationError,
    DefinitionError,
    HodeiError,
    IdempotencyKeyReused,
    InvalidPayload,
    NotReady,
    PermanentError,
    SagaNotFound,
    SagaTimeout,
    StorageUnavailable,
    UnknownSaga,
)
from sagas.events import on_event
from sagas.flags import SagaFeatureFlags
from sagas.policy import RetryPolicy
from sagas.ports import SagaOrchestrator
from sagas.registry import Registry
from sagas.results import DomainEvent, SagaInstance, SagaResult, SagaStatus, SagaStepData
from sagas.step import SagaStep, Step
from sagas.types import SagaId, SagaState, SagaStepId, SagaType, StepState

if TYPE_CHECKING:
    from sagas.client import SagaClient, SagaHandle
    from sagas.runtime.install import install

# Loaded on first use, because they need Celery or SQLAlchemy.
_LAZY = {"SagaClient": "sagas.client", "SagaHandle": "sagas.client", "install": "sagas.runtime.install"}

__version__ = "0.1.0"

__all__ = [
    "BrokerUnavailable",
    "CancelSaga",
    "ConfigurationError",
    "DefinitionError",
    "DomainEvent",
    "HodeiError",
    "IdempotencyKeyReused",
    "InvalidPayload",
    "NotReady",
    "PermanentError",
    "Registry",
    "RetryPolicy",
    "Saga",
    "SagaClient",
    "SagaContext",
    "SagaFeatureFlags",
    "SagaHandle",
    "SagaId",
    "SagaInstance",
    "SagaNotFound",
    "SagaOrchestrator",
    "SagaResult",
    "SagaState",
    "SagaStatus",
    "SagaStep",
    "SagaStepData",
    "SagaStepId",
    "SagaTimeout",
    "SagaType",
    "Step",
    "StepState",
    "StorageUnavailable",
    "UnknownSaga",
    "install",
    "on_event",
]


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(import_module(_LAZY[name]), name)
    raise AttributeError(f"module 'sagas' has no attribute {name!r}")
