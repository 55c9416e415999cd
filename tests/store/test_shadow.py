"""US-2.3: a shadow saga is a saga like any other, but its steps get ports that have no effect outside."""

from collections.abc import Callable, Iterator
from typing import Protocol

import pytest
from celery import Celery

from sagas import RetryPolicy, Saga, SagaContext, SagaState
from sagas.runtime.engine import Engine, Ports
from sagas.settings import Settings
from sagas.store.requests import StartRequest


class Mail(Protocol):
    def send(self) -> None: ...


class Box:
    def __init__(self) -> None:
        self.sent = 0

    def send(self) -> None:
        self.sent += 1


def shop() -> Saga:
    saga = Saga("shop")

    @saga.step(retry=RetryPolicy(max_attempts=1))
    def tell(ctx: SagaContext) -> None:
        ctx.port(Mail).send()

    return saga


@pytest.fixture
def make_engine(make_database: Callable[[str], str]) -> Iterator[Callable[..., Engine]]:
    made: list[Engine] = []

    def make(real: Box, shadow: Box | None) -> Engine:
        settings = Settings(database_url=make_database("engine"))
        engine = Engine(Celery("test", broker="memory://"), settings, ports=Ports({Mail: real}))
        engine.shadow_ports = Ports({Mail: shadow} if shadow else {})
        engine.registry.add(shop())
        engine.register_definitions()
        made.append(engine)
        return engine

    yield make
    for engine in made:
        engine.sql.dispose()


@pytest.mark.parametrize("key", [None, "k"])
def test_the_steps_of_a_shadow_saga_get_the_shadow_ports(make_engine, key) -> None:
    real, shadow = Box(), Box()
    engine = make_engine(real, shadow)
    started = engine.store.start(StartRequest("shop", {}, key, metadata={"own": 1}, shadow=True))
    assert engine.orchestrator.drive(started["saga_id"]).outcome is SagaState.COMPLETED
    assert (real.sent, shadow.sent) == (0, 1)
    usual = engine.store.start(StartRequest("shop", {}, metadata={"shadow": True}))
    engine.orchestrator.drive(usual["saga_id"])
    assert (real.sent, shadow.sent) == (1, 1), "metadata of somebody's own make no shadow"


def test_a_shadow_saga_never_falls_back_on_the_real_ports(make_engine) -> None:
    real = Box()
    engine = make_engine(real, None)
    started = engine.store.start(StartRequest("shop", {}, shadow=True))
    assert engine.orchestrator.drive(started["saga_id"]).outcome is SagaState.COMPENSATED
    assert real.sent == 0
