"""Loaded in the workers of the gaps run only: a process kills itself right before or after an engine statement.

Every commit point of the engine is armed once, in a table of the effects log's server; whichever process comes by takes
it and dies. So each gap between two commits is hit in a run, and not only by luck (LESSONS L68).
"""

import os
import signal
from collections.abc import Callable
from typing import Any

import psycopg2

from sagas.runtime import backlog, follow_up, publish, reconcile, tasks
from sagas.store.store import Store
from tests.harness.effects import URL_VARIABLE
from tests.harness.servers import libpq_url

TABLE = "CREATE TABLE IF NOT EXISTS chaos_gaps (point text PRIMARY KEY, hit_at timestamptz, pid int)"
TAKE = "UPDATE chaos_gaps SET hit_at = clock_timestamp(), pid = %s WHERE point = %s AND hit_at IS NULL RETURNING point"
OUTCOMES = {
    "forward": ("done", "failed", "failed for good", "unknown", "not_ready", "cancel", "bad_output"),
    "undo": ("done", "failed", "not_ready"),
    "verify": ("done", "not_done", "failed"),
}
STATEMENTS = (
    *("start", "claim_many", "commit_many", "prepare_undo", "cancel", "take_over", "hint"),
    *("reconcile", "put_right", "lost", "backlog", "put_off", "call_in", "silent_claims"),
)
BOTH = (
    *(f"commit {phase} {kind}" for phase, kinds in OUTCOMES.items() for kind in kinds),
    *("claim forward", "claim undo"),
    *STATEMENTS,
    *("publish forward", "publish undo"),
)
POINTS = (*(f"{where} {point}" for point in BOTH for where in ("before", "after")), "after claim verify")

_phase = "forward"
_spent: set[str] = set()


def die_at(point: str) -> None:
    """SIGKILL this process if nobody has died at this point yet."""
    if point in _spent or point not in POINTS:
        return
    _spent.add(point)
    connection = psycopg2.connect(libpq_url(os.environ[URL_VARIABLE]))
    connection.autocommit = True
    with connection.cursor() as cursor:
        cursor.execute(TAKE, (os.getpid(), point))
        taken = cursor.fetchone()
    connection.close()
    if taken:
        os.kill(os.getpid(), signal.SIGKILL)


def _around(name: str, work: Callable[..., Any], point: Callable[..., str]) -> Callable[..., Any]:
    def wrapped(*arguments: Any, **options: Any) -> Any:
        die_at(f"before {point(*arguments, **options)}")
        answer = work(*arguments, **options)
        die_at(f"after {point(*arguments, **options)}")
        return answer

    wrapped.__name__ = name
    return wrapped


def _commit_point(_store: Any, _saga: Any, _step: str, _attempt: Any, outcome: str, **options: Any) -> str:
    for_good = outcome == "failed" and options.get("retry_in") is None and _phase == "forward"
    return f"commit {_phase} {outcome}{' for good' if for_good else ''}"


def _claim(work: Callable[..., Any]) -> Callable[..., Any]:
    def claim(store: Store, saga_id: Any, step: str, undo: bool, *rest: Any) -> Any:
        global _phase  # noqa: PLW0603 - one process runs one attempt at a time
        die_at(f"before claim {'undo' if undo else 'forward'}")
        answer = work(store, saga_id, step, undo, *rest)
        if answer["verdict"] == "granted":
            _phase = answer["phase"]
            die_at(f"after claim {_phase}")
        return answer

    return claim


def _publish_point(*_: Any, undo: bool, **__: Any) -> str:
    return "publish undo" if undo else "publish forward"


def plant() -> None:
    """Wrap the store's statements and the publishing of messages; make reconcile's batches and backlogs small."""
    reconcile.PROBE = reconcile.BATCH = 3
    backlog.MOVED, backlog.COUNTED = 0.3, 3  # type: ignore[assignment]
    for name in STATEMENTS:
        setattr(Store, name, _around(name, getattr(Store, name), lambda *_, name=name, **__: name))
    Store.commit = _around("commit", Store.commit, _commit_point)  # type: ignore[method-assign]
    Store.claim = _claim(Store.claim)  # type: ignore[method-assign]
    wrapped = _around("publish_route", publish.publish_route, _publish_point)
    publish.publish_route = wrapped
    tasks.publish_route = follow_up.publish_route = wrapped  # type: ignore[attr-defined]


if os.environ.get("CHAOS_PATCH"):
    plant()
