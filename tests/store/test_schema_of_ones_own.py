"""HODEI_DB_SCHEMA: the engine's tables beside a user's own, whose sessions look elsewhere."""

import uuid

import psycopg2
import pytest
import sqlalchemy as sa
from sqlalchemy.orm import Session

from sagas import DomainEvent
from sagas.settings import Settings
from sagas.store.database import connect_engine
from sagas.store.definitions import register
from sagas.store.requests import StartRequest
from sagas.store.store import Store
from sagas.store.upgrade import upgrade
from tests.harness.database import MakeDatabase, Query
from tests.harness.servers import libpq_url
from tests.store.lab import NODE, build

SCHEMA = 'engine "room" 100%'


@pytest.fixture
def url(make_database: MakeDatabase) -> str:
    url = make_database("empty")
    upgrade(url, schema=SCHEMA, engine_only=True)
    return url


@pytest.mark.parametrize("kind", ["dbapi", "session"])
def test_a_saga_starts_in_a_session_that_does_not_look_there(url: str, kind: str) -> None:
    """L62: with the caller's own rows, and rolled back with them."""
    engine = connect_engine(url, schema=SCHEMA)
    store = Store(engine, SCHEMA)
    register(engine, [build("order", a={})], Settings())
    own = psycopg2.connect(libpq_url(url)) if kind == "dbapi" else Session(sa.create_engine(url))
    lost = store.start(StartRequest("order", {}), session=own)
    own.rollback()
    kept = store.start(StartRequest("order", {"n": 1}), session=own)
    store.record_event(DomainEvent("Ordered", "order:1"), session=own)
    own.commit()
    own.close()

    quoted = SCHEMA.replace('"', '""')
    found = Query(url)(f'SELECT saga_id::text FROM "{quoted}".saga_instances')
    assert [row["saga_id"] for row in found] == [kept["saga_id"]] != [lost["saga_id"]]
    assert store.claim(kept["saga_id"], "a", False, uuid.uuid4(), NODE)["verdict"] == "granted"
    engine.dispose()
