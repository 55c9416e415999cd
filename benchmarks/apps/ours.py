"""The same job as a saga, in an app with the engine installed."""

import os

import sagas
from benchmarks.apps.shared import FAILS, STEPS, make_app
from sagas import PermanentError, Saga, SagaContext

app = make_app("ours")


def act(ctx: SagaContext) -> dict[str, str]:
    return {"step": ctx.step}


def fail(ctx: SagaContext) -> None:
    raise PermanentError("the last step fails")


def undo(ctx: SagaContext) -> None:
    return None


def make_saga(steps: int, fails: bool) -> Saga:
    """`bench`, with so many steps; each but the last has a compensation if that one fails."""
    saga = Saga("bench")
    for number in range(1, steps + 1):
        last = fails and number == steps
        step = saga.step(fail if last else act, name=f"step_{number}")
        if fails and not last:
            step.compensation(undo)
    return saga


SUBSCRIBER = ["benchmarks.apps.subscriber"] if os.environ.get("BENCH_SUBSCRIBED") else []

sagas.install(app, sagas=[make_saga(STEPS, FAILS)], modules=SUBSCRIBER)
