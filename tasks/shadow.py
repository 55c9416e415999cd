"""Sagas in the shadow: each runs beside what goes past it, without effect; when both have ended they are compared."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from models import Records
from sagas import SagaFeatureFlags, SagaId, SagaOrchestrator

if TYPE_CHECKING:
    from tasks.platform import Platform

logger = logging.getLogger(__name__)


def begin(
    records: Records,
    orchestrator: SagaOrchestrator,
    flags: SagaFeatureFlags,
    saga_type: str,
    key: str,
    run_id: uuid.UUID,
    payload: Mapping[str, Any],
) -> None:
    """Start the shadow of this run, in its transaction; one that cannot be started is a difference, and no more."""
    saga_id: SagaId | None = None
    problem: str | None = None
    try:
        with records.session.begin_nested():
            saga_id = orchestrator.start_saga(
                saga_type,
                payload,
                idempotency_key=f"shadow:{run_id}",
                actor="shadow",
                session=records.session,
                shadow=True,
            )
    # Whatever is wrong with the shadow, the direct way goes on.
    except Exception as error:  # noqa: BLE001
        problem = f"it was not started: {type(error).__name__}: {error}"
        logger.warning("the shadow of %s %s: %s", saga_type, key, problem)
    records.shadows.begin(run_id, saga_type, key, flags.percent(saga_type), saga_id, problem)


def compare(platform: Platform) -> int:
    """Compare what has ended since the last time; how many differ."""
    different = 0
    with platform.records() as records:
        for one, saga in records.shadows.take():
            found = records.shadows.compare(one, saga)
            if found:
                different += 1
                logger.warning(
                    "shadow of %s %s (saga %s) differs: %s", one.saga_type, one.key, one.saga_id, _line(found)
                )
    return different


def _line(found: Mapping[str, Any]) -> str:
    return "; ".join(f"{name}: {value}" for name, value in found.items())
