"""Defects of the runtime, loaded by CHAOS_PATCH in the processes of one proof; CHAOS_DEFECT names the one."""

import os
import time
from typing import Any

from celery import current_app

from sagas.runtime import abreast, backlog, publish, reconcile, tasks
from sagas.runtime.engine import Engine
from sagas.store.requests import StartRequest
from sagas.store.store import START, Store
from sagas.store.wire import execute_on
from sagas.types import SagaId


def start_rolls_back() -> None:
    """The answer is given, and the transaction is not committed."""

    def start(store: Store, request: StartRequest, *, session: Any = None) -> dict[str, Any]:
        with store.engine.connect() as connection:
            answer = dict(execute_on(connection, START, request.parameters()))
            connection.rollback()
        return {**answer, "route": []}

    Store.start = start  # type: ignore[method-assign, assignment]


def reconcile_off() -> None:
    tasks.reconcile = lambda engine: reconcile.Reconciled()  # type: ignore[attr-defined]


def publish_first() -> None:
    """The first message is out, then its row is committed."""

    def start(store: Store, request: StartRequest, *, session: Any = None) -> dict[str, Any]:
        with store.engine.begin() as connection:
            answer = dict(execute_on(connection, START, request.parameters()))
            publish.publish_route(current_app, answer["saga_id"], request.saga_type, answer["route"], undo=False)
            time.sleep(0.5)
        return {**answer, "route": []}

    Store.start = start  # type: ignore[method-assign, assignment]


def errback_believed() -> None:
    def help_saga(engine: Engine, saga_id: SagaId) -> None:
        engine.store.cancel(saga_id, "link_error", None)
        engine.publish(saga_id)

    tasks.help_saga = help_saga  # type: ignore[attr-defined]


def lost_by_age() -> None:
    backlog.Queues.lost = lambda self, doubtful: list(doubtful)  # type: ignore[method-assign]


def nobody_comes() -> None:
    abreast.LATE = 3600.0


PLANTED = {
    "start answers before its row is on disk": start_rolls_back,
    "reconcile off": reconcile_off,
    "published before its commit": publish_first,
    "errback believed": errback_believed,
    "a backlog is taken for lost": lost_by_age,
    "nobody comes where one takes long": nobody_comes,
}

if os.environ.get("CHAOS_DEFECT"):
    PLANTED[os.environ["CHAOS_DEFECT"]]()
