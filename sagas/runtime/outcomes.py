"""How an attempt ended, as a value: what the author's code did, and what its end means (R2)."""

from __future__ import annotations

from collections.abc import Mapping
from types import TracebackType
from typing import Any, Literal, NamedTuple

from billiard.exceptions import SoftTimeLimitExceeded

from sagas.context import SagaContext
from sagas.errors import CancelSaga, NotReady, PermanentError, StepTimeLimit
from sagas.jsontext import JsonText
from sagas.policy import RetryPolicy
from sagas.runtime.limits import calm, time_limit
from sagas.step import Step

_OURS = (__name__, Step.__module__)


class Outcome(NamedTuple):
    """How an attempt ended, as a value. `retry_in` None: it is not to be tried again. `text` is the output as JSON."""

    kind: Literal[
        "done", "failed", "unknown", "not_ready", "cancel", "not_done", "bad_output", "refused", "child", "unbegun"
    ]
    output: Any = None
    error: BaseException | None = None
    retry_in: float | None = None
    text: JsonText | None = None

    def stored_error(self) -> dict[str, str] | None:
        if self.error is None:
            return None
        text = str(self.error).replace("\x00", "\\x00").encode(errors="backslashreplace").decode()
        return {"type": type(self.error).__name__, "message": text[:2000]}


def execute(step: Step, ctx: SagaContext, claim: Mapping[str, Any]) -> Outcome:
    """The author's code, and what its end means (R2)."""
    phase = claim["phase"]
    policy = step.undo_retry if phase == "undo" else step.retry
    try:
        with time_limit(claim["timeout_s"]):
            if phase == "undo":
                step.compensate(ctx)
                return Outcome("done")
            if phase == "verify":
                return _verified(step, ctx, policy)
            return Outcome("child" if step.child else "done", output=step.execute(ctx))
    except (StepTimeLimit, SoftTimeLimitExceeded) as error:
        calm()
        return Outcome("unknown", error=error, retry_in=policy.delay(ctx.attempt))
    except NotReady as error:
        return Outcome("not_ready", error=error, retry_in=max(error.retry_in, 0.05))
    except CancelSaga as error:
        return Outcome("failed" if phase == "undo" else "cancel", error=error)
    except Exception as error:  # noqa: BLE001 - whatever the author's code raises is an outcome
        return _raised(step, phase, policy, error, ctx.attempt)


def _verified(step: Step, ctx: SagaContext, policy: RetryPolicy) -> Outcome:
    answer = step.probe(ctx) if step.probe else None
    if answer is None:
        return Outcome("not_done", retry_in=policy.delay(1))
    if not isinstance(answer, dict):
        return Outcome("failed", error=TypeError(f"verify of {step.name} answered {answer!r}: a dict or None is meant"))
    return Outcome("done", output=answer)


def _raised(step: Step, phase: str, policy: RetryPolicy, error: Exception, attempt: int) -> Outcome:
    delay = policy.delay(attempt)
    if phase == "verify":
        return Outcome("failed", error=error, retry_in=delay)
    # Only what the author has named says that nothing happened; any other exception says nothing.
    told = isinstance(error, (PermanentError, *policy.retry_on))
    if phase == "forward" and not step.is_idempotent and not told:
        return Outcome("unknown", error=error)
    return Outcome("failed", error=error, retry_in=None if policy.gives_up_on(error) else delay)


def authors_part(traceback: TracebackType | None) -> TracebackType | None:
    """Without the frames in front that are ours: Celery copies, formats and logs each one, which took it longer than
    all that we do for a step. All of it, where there is no other.
    """
    rest = traceback
    while rest is not None and rest.tb_frame.f_globals.get("__name__") in _OURS:
        rest = rest.tb_next
    return rest or traceback
