"""What a person does to a saga: cancel, pause, resume, retry, skip, force. Each is an event with actor and reason."""

from __future__ import annotations

import uuid
from typing import Any

from sagas.errors import HodeiError, SagaNotFound
from sagas.runtime.engine import Engine
from sagas.runtime.publish import publish_found
from sagas.types import SagaId

_WHY_NOT = {
    "not_failed": "only a FAILED saga is mended",
    "not_this_attempt": "the step's attempt is another one by now, or it is not the one that failed; look at it again",
    "needs_force_or_skip": (
        "nobody knows whether that step has acted, and it must not act twice: `force` if it has, `skip` if not"
    ),
}


def cancel_saga(engine: Engine, saga_id: SagaId, reason: str, actor: str | None) -> str:
    """Ask a saga to go back: cancelled, compensating, noted, past_pivot or terminal. Raises SagaNotFound."""
    return _follow(engine, saga_id, engine.store.cancel(saga_id, reason, actor))


def pause_saga(engine: Engine, saga_id: SagaId, reason: str | None, actor: str | None) -> str:
    """Begin nothing new: paused, already or terminal. What is running ends by itself. Raises SagaNotFound."""
    return _follow(engine, saga_id, engine.store.pause(saga_id, True, reason, actor))


def resume_saga(engine: Engine, saga_id: SagaId, reason: str | None, actor: str | None) -> str:
    """Go on: resumed, already or terminal. Raises SagaNotFound."""
    return _follow(engine, saga_id, engine.store.pause(saga_id, False, reason, actor))


def mend_saga(
    engine: Engine,
    saga_id: SagaId,
    verb: str,
    step: str | None = None,
    attempt_id: uuid.UUID | None = None,
    *,
    output: Any = None,
    reason: str | None = None,
    actor: str | None = None,
) -> str:
    """`retry`, `skip` or `force` the step at which a saga has FAILED; by default the one that failed, as it is now.

    Raises SagaNotFound, and HodeiError where the saga is not in that state.
    """
    failed = engine.repository.failed_step(saga_id)
    if failed is None:
        raise HodeiError(f"saga {saga_id}: {_WHY_NOT['not_failed']}")
    name, current = failed
    answer = engine.store.mend(
        saga_id, verb, step or name, attempt_id or current, output=output, reason=reason, actor=actor
    )
    if answer["verdict"] in _WHY_NOT:
        raise HodeiError(f"saga {saga_id}, step {step or name}: {_WHY_NOT[answer['verdict']]}")
    return _follow(engine, saga_id, answer)


def _follow(engine: Engine, saga_id: SagaId, answer: dict[str, Any]) -> str:
    if answer["verdict"] == "unknown_saga":
        raise SagaNotFound(f"there is no saga {saga_id}")
    publish_found(engine.app, answer.get("publish"))
    return str(answer["verdict"])
