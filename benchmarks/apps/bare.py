"""What a user would otherwise write: a chain of tasks, and where it fails a reverse chain, without any record."""

from typing import Any

from celery import chain

from benchmarks.apps.shared import STEPS, make_app

app = make_app("bare")


@app.task(name="bench.step")
def step(saga_id: str, number: int) -> dict[str, int]:
    return {"step": number}


@app.task(name="bench.fail")
def fail(saga_id: str, number: int) -> None:
    raise ValueError("the last step fails")


@app.task(name="bench.undo")
def undo(saga_id: str, number: int) -> None:
    return None


# One argument and bind=True: dispatched as a task of its own, as every sound errback is.
@app.task(name="bench.go_back", bind=True)
def go_back(self: Any, saga_id: str) -> None:
    chain(*(undo.si(saga_id=saga_id, number=number) for number in reversed(range(1, STEPS)))).apply_async()
