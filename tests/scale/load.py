"""Many sagas at once, started as a client starts them: rows first, then their messages."""

import json
import uuid
from typing import Any

from celery import Celery

from sagas import Saga, SagaId
from sagas.registry import Registry
from sagas.runtime.engine import Engine
from sagas.runtime.publish import publish_found, publish_route
from sagas.settings import load
from sagas.store.requests import Claimant
from tests.harness.database import Query
from tests.scale.sagas import bulk

START = """
SELECT saga_start(%s, %s, NULL, NULL, 'load', NULL, '{}', NULL, true) AS started FROM generate_series(1, %s)
"""
# Rows whose messages follow a moment later, as a client's do: far less than the two seconds until reconcile looks.
TOGETHER = 20


def engine(database_url: str, broker_url: str, *sagas: Saga) -> Engine:
    """The engine of a process that only asks and publishes."""
    app = Celery("load", broker=broker_url, set_as_current=False)
    return Engine(app, load(database_url=database_url, broker_url=broker_url), Registry([*sagas, bulk]))


def start_many(engine: Engine, query: Query, count: int, saga_type: str = "bulk", payload: Any = None) -> list[SagaId]:
    """Start `count` sagas and publish the first message of each."""
    ids: list[SagaId] = []
    while len(ids) < count:
        rows = query(START, saga_type, json.dumps(payload or {}), min(TOGETHER, count - len(ids)))
        for row in rows:
            found = row["started"]
            publish_route(engine.app, found["saga_id"], saga_type, found["route"], undo=False)
            ids.append(SagaId(found["saga_id"]))
    return ids


def turn_back(engine: Engine, saga_id: SagaId) -> None:
    """Bring a saga of `bulk` to COMPENSATING with one step done, by hand: its undo is published and waits."""
    attempt = uuid.uuid4()
    assert engine.store.claim(saga_id, "one", False, attempt, Claimant("load"))["verdict"] == "granted"
    assert engine.store.commit(saga_id, "one", attempt, "done", ride=True)["verdict"] == "committed"
    answer = engine.store.cancel(saga_id, "the test says so", "load")
    assert answer["verdict"] == "compensating"
    publish_found(engine.app, answer["publish"])
