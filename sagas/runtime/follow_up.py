"""After a commit: what is published next, and what shows the attempt's end to Celery."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from celery.exceptions import Retry

from sagas.runtime.ended import Report
from sagas.runtime.outcomes import authors_part
from sagas.runtime.publish import publish_route
from sagas.types import SagaId

if TYPE_CHECKING:
    from sagas.runtime.engine import Engine


def follow_up(engine: Engine, saga_id: SagaId, report: Report, ride: bool, request: Any) -> Exception | None:
    """Publish what comes next. What shows the attempt's end to Celery, if it is raised: a retry, or a failure."""
    if report.touched:
        engine.publish(report.touched)
    chained = "undo" if report.phase == "undo" else "continue"
    if not (ride and report.verdict == "committed" and report.next == chained):
        request.chain = None
        if report.outcome is None:
            # A stray or early message; it moves the saga if nothing else is on its way (R9).
            engine.publish(saga_id)
        elif not starts_back(report):
            # Where a step fails for good it raises below, and its link_error starts the compensations.
            publish_next(engine, saga_id, report)
    return _shown(report)


def publish_next(engine: Engine, saga_id: SagaId, report: Report, **more: Any) -> None:
    """The message of what comes next, if any; `more` is `publish_route`'s."""
    pause = report.outcome.retry_in if report.outcome and report.next == "again" else None
    publish_route(engine.app, saga_id, report.saga_type, report.route, undo=report.undo, countdown=pause, **more)


def starts_back(report: Report) -> bool:
    """Whether it is a step that fails for good: its link_error, and no message of ours, starts the compensations."""
    failed = report.outcome is not None and report.outcome.error is not None
    return failed and report.phase != "undo" and report.next == "undo"


def _shown(report: Report) -> Exception | None:
    error = report.outcome.error if report.outcome else None
    if error is None:
        return None
    if report.next in ("again", "wait"):
        # Shown as RETRY; the next attempt's message is published above, or woken from its row.
        retry: Exception = Retry(str(error), None, report.outcome.retry_in if report.outcome else None)
        return retry
    if isinstance(error, Exception) and not isinstance(error, MemoryError):
        return error.with_traceback(authors_part(error.__traceback__))
    # A MemoryError would stop the whole worker and requeue the message: poison for the fleet.
    return RuntimeError(f"{type(error).__name__}: {error}")
