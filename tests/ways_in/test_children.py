"""A step that is a saga, on real workers: its end, its failure, its undo, and deaths between the two rows."""

import time
from typing import TYPE_CHECKING

import pytest
from celery import Celery

from sagas import Saga, SagaContext, SagaState
from sagas.runtime.engine import Engine
from sagas.settings import Settings
from tests.harness.celery_fixtures import StartSystem
from tests.harness.database import MakeDatabase, Query
from tests.harness.effects import Effects
from tests.harness.family import relatives
from tests.harness.processes import Processes
from tests.harness.servers import BrokerServer

if TYPE_CHECKING:
    from sagas import SagaClient

pytestmark = [pytest.mark.slow, pytest.mark.saga_modules("tests.harness.family")]


def child_of(query: Query, saga_id: object) -> str:
    return str(query.value("SELECT saga_id FROM saga_instances WHERE parent_saga_id = %s", str(saga_id)))


@pytest.mark.parametrize(
    ("payload", "outcomes", "kid_story", "story"),
    [
        pytest.param(
            relatives(),
            ("COMPLETED", "COMPLETED"),
            ["effect one", "effect two", "effect three", "effect four"],
            ["effect one", "effect four"],
            id="done",
        ),
        pytest.param(
            relatives({"three": "fail"}),
            ("COMPENSATED", "COMPENSATED"),
            ["effect one", "effect two", "undo two", "undo one"],
            ["effect one", "undo one"],
            id="the child goes back",
        ),
        pytest.param(
            relatives(four="fail"),
            ("COMPENSATED", "COMPENSATED"),
            [
                "effect one",
                "effect two",
                "effect three",
                "effect four",
                "undo four",
                "undo three",
                "undo two",
                "undo one",
            ],
            ["effect one", "undo one"],
            id="the parent goes back",
        ),
        pytest.param(
            relatives({"two": "die:1", "undo_two": "die:1"}, four="fail"),
            ("COMPENSATED", "COMPENSATED"),
            None,
            ["effect one", "undo one"],
            id="deaths in the child",
        ),
    ],
)
def test_a_family(
    start_system: StartSystem,
    saga_client: "SagaClient",
    query: Query,
    effects: Effects,
    payload: dict[str, object],
    outcomes: tuple[str, str],
    kid_story: list[str] | None,
    story: list[str],
) -> None:
    """Design 4: its end completes or fails the step; undoing the step undoes the child, before what came earlier."""
    start_system()
    handle = saga_client.start("family", payload)
    assert handle.result(timeout=40).outcome == outcomes[0]
    kid = child_of(query, handle.saga_id)
    assert saga_client.handle(kid).result(timeout=5).outcome == outcomes[1]
    assert effects.story(handle.saga_id, ("effect", "undo")) == story
    if kid_story is not None:
        assert effects.story(kid, ("effect", "undo")) == kid_story


def test_cancel_while_a_step_of_the_child_runs(
    start_system: StartSystem, saga_client: "SagaClient", query: Query, effects: Effects
) -> None:
    """R10 (trace): the parent waits for the end of its child, which waits for the end of its step."""
    start_system()
    with effects.held_lock("kid"):
        handle = saga_client.start("family", relatives({"two": "gate:kid"}))
        effects.wait_until_blocked("kid")
        assert handle.cancel("enough") == "compensating"
        kid = child_of(query, handle.saga_id)
        assert saga_client.handle(kid).status().state == SagaState.COMPENSATING
        assert handle.status().state == SagaState.COMPENSATING
    assert handle.result(timeout=30).outcome == SagaState.CANCELLED
    assert effects.story(kid, ("effect", "undo")) == ["effect one", "effect two", "undo two", "undo one"]
    assert effects.story(handle.saga_id, ("effect", "undo")) == ["effect one", "undo one"]


def test_the_broker_forgets_all_while_the_parent_waits(
    start_system: StartSystem,
    saga_client: "SagaClient",
    query: Query,
    effects: Effects,
    broker_server: BrokerServer,
    processes: Processes,
) -> None:
    """P2: and the process of the child's step is killed; rows bring both to their end."""
    start_system()
    with effects.held_lock("kid"):
        handle = saga_client.start("family", relatives({"four": "lock:kid"}))
        (pid,) = effects.wait_until_blocked("kid")
        processes.kill(pid)
        broker_server.flush()
    assert handle.result(timeout=40).outcome == SagaState.COMPLETED
    assert effects.count("effect", step="four", saga_id=child_of(query, handle.saga_id)) == 1


def test_in_the_calling_process(make_database: MakeDatabase) -> None:
    """`execute_saga` runs child and parent by the same claim, run, commit."""
    engine = Engine(Celery("alone", broker="memory://"), Settings(database_url=make_database("engine")))
    told: list[str] = []
    child, parent = Saga("kid_saga"), Saga("parent")

    @child.step
    def inner(ctx: SagaContext) -> dict[str, int]:
        told.append("inner")
        return {"twice": 2 * ctx.payload["n"]}

    @inner.compensation
    def back(ctx: SagaContext) -> None:
        told.append("undo inner")

    parent.child("kid", "kid_saga", payload=lambda ctx: {"n": ctx.payload["n"]})

    @parent.step
    def after(ctx: SagaContext) -> None:
        told.append(f"after {ctx.outputs['kid']['outputs']['inner']['twice']}")
        if ctx.payload["n"] == 0:
            raise ArithmeticError("planned")

    try:
        engine.registry.add(child)
        engine.registry.add(parent)
        engine.register_definitions()
        begun = time.monotonic()
        assert engine.orchestrator.execute_saga(parent, {"n": 4}).outcome == SagaState.COMPLETED
        assert told == ["inner", "after 8"]
        after.retry = type(after.retry)(max_attempts=1)
        told.clear()
        engine.register_definitions()
        assert engine.orchestrator.execute_saga(parent, {"n": 0}).outcome == SagaState.COMPENSATED
        assert told == ["inner", "after 0", "undo inner"]
        assert time.monotonic() - begun < 20
    finally:
        engine.sql.dispose()
