"""Fixtures of the relay's tests."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from celery import Celery

from sagas.runtime.engine import Engine
from sagas.settings import Settings
from sagas.store.relay import RelayStore, subscribe, subscriptions_of
from tests.harness.database import MakeDatabase, Query
from tests.relay import handlers
from tests.store.lab import Lab

HANDLERS = "tests.relay.handlers"
ALL = (handlers.plain, handlers.counting, handlers.elsewhere, handlers.of_sagas)

Emit = Callable[..., int]
MakeEngine = Callable[..., Engine]


@pytest.fixture
def lab(make_database: MakeDatabase) -> Iterator[Lab]:
    """The store on a fresh database, with a clock that only the test moves and the tests' subscribers."""
    lab = Lab(make_database("engine"))
    subscribe(lab.engine, subscriptions_of(ALL, Settings()))
    yield lab
    lab.close()


@pytest.fixture
def store(lab: Lab) -> RelayStore:
    """The relay's statements on the lab's database."""
    return RelayStore(lab.engine)


@pytest.fixture
def emit(query: Query) -> Emit:
    """`emit("job:1", "Happened", do="ok") -> event_id`, committed, on the test's own system."""

    def emit(stream: str, event_type: str = "Happened", **payload: Any) -> int:
        import json

        return int(query.value("SELECT saga_event(%s, %s, %s)", stream, event_type, json.dumps(payload)))

    return emit


@pytest.fixture
def make_engine(database_url: str, broker_url: str) -> Iterator[MakeEngine]:
    """`make_engine(broker=None, **settings) -> Engine`: an engine in this process, with its subscriptions written."""
    made: list[Engine] = []

    def make(broker: str = broker_url, **settings: Any) -> Engine:
        app = Celery(f"relay{len(made)}", broker=broker, set_as_current=False)
        engine = Engine(app, Settings(database_url=database_url, broker_url=broker, **settings), subscribers=ALL)
        engine.register_definitions()
        made.append(engine)
        return engine

    yield make
    for engine in made:
        engine.sql.dispose()
        engine.app.close()


@pytest.fixture
def engine(make_engine: MakeEngine) -> Engine:
    """One engine in this process."""
    return make_engine()
