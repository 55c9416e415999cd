"""Loaded in a worker: what Celery tells of each task there, by its signals, as rows of the effects log."""

from typing import Any

from celery import signals

from tests.harness.effects import record


@signals.task_received.connect
def received(request: Any, **_: Any) -> None:
    record("received", step=request.name, task_id=request.id)


@signals.task_prerun.connect
def prerun(task_id: str, task: Any, kwargs: dict[str, Any], **_: Any) -> None:
    request = task.request
    told = {"task_id": task_id, "parent": request.parent_id, "root": request.root_id, "current": request.id}
    record("prerun", step=task.name, saga_id=kwargs.get("saga_id"), **told)


@signals.task_postrun.connect
def postrun(task_id: str, task: Any, state: str, **_: Any) -> None:
    record("postrun", step=task.name, task_id=task_id, state=state)
