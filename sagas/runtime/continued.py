"""What a step that a message goes on to is to Celery: the request that its own message would have been, its story."""

from __future__ import annotations

import time
import uuid
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from celery.app.task import Context

from sagas.runtime.publish import COMPENSATE, COMPENSATIONS, PACK, help_signature

if TYPE_CHECKING:
    from celery import Celery

    from sagas.runtime.maker import Raw


class Told(NamedTuple):
    """What one continued step was to Celery: its main process sends the events, which only it can.

    `started` is a POSIX time, `runtime` seconds, `state` one of Celery's. A tuple, because each message's result is
    pickled, whether anybody listens to events or not.
    """

    uuid: str
    name: str
    parent_id: str | None
    root_id: str
    kwargs: str
    started: float
    runtime: float
    state: str
    error: str = ""
    traceback: str = ""


class Continued(str):
    """The result of a message's first step as text, and what followed it: the way from a pool's child to its parent."""

    steps: tuple[Told, ...] = ()
    ended: float | None = None
    """When the first step was over (POSIX time), if its parent hears of it only later."""
    outgoing: tuple[Raw, ...] = ()
    """Messages that its parent is to send with the acknowledgement of this one (`outgoing`)."""


def successor(request: Mapping[str, Any], name: str) -> dict[str, Any]:
    """The request that the message of this task would have been, had the chain been published."""
    chain = list(request.get("chain") or ())
    hop = chain.pop() if chain else None
    if hop is not None and hop["task"] != name:
        hop, chain = None, []
    options = hop["options"] if hop else {}
    task_id = options.get("task_id") or str(uuid.uuid4())
    if name == COMPENSATE:
        # That of an errback: it has none itself, and comes from a queue of its own.
        request = {**request, "errbacks": None}
        request["delivery_info"] = {**(request.get("delivery_info") or {}), "routing_key": COMPENSATIONS}
    return {
        **request,
        "id": task_id,
        "correlation_id": task_id,
        "task": name,
        "parent_id": request["id"],
        "root_id": request.get("root_id") or request["id"],
        "chain": chain or None,
        "callbacks": None,
        "errbacks": options.get("link_error") or request.get("errbacks"),
        "retries": 0,
        "eta": None,
    }


def brought(app: Celery, like: Mapping[str, Any], saga_id: str) -> dict[str, Any]:
    """The request of the same first step of another saga, whose message would have been like this one's."""
    task_id = str(uuid.uuid4())
    return {
        **like,
        "id": task_id,
        "correlation_id": task_id,
        "kwargs": {"saga_id": saga_id},
        "kwargsrepr": repr({"saga_id": saga_id}),
        "parent_id": None,
        "root_id": saga_id,
        # What it does not go on to is published by its own route.
        "chain": None,
        "errbacks": [help_signature(saga_id)],
        "retries": 0,
        "eta": None,
        PACK: None,
    }


_CELERYS = frozenset({*vars(Context), "lang", "task", "argsrepr", "kwargsrepr", "compression"})
"""As `Context._get_custom_headers` has them (celery/app/task.py)."""


def with_headers(request: Mapping[str, Any]) -> dict[str, Any]:
    """A message's request, for its first task and what follows it, with the headers that are not Celery's own.

    Celery looks for them where a request has none, for each task: a fifth of what it takes to trace one.
    """
    if request.get("headers") is not None:
        return dict(request)
    return {**request, "headers": {name: value for name, value in request.items() if name not in _CELERYS}}


def told(task: Any, request: dict[str, Any]) -> Told:
    """Run it."""
    started = time.time()
    answer = task.tracer(request["id"], request["args"], request["kwargs"], request)
    info = answer.info
    return Told(
        uuid=request["id"],
        name=request["task"],
        parent_id=request["parent_id"],
        root_id=request["root_id"],
        kwargs=repr(request["kwargs"]),
        started=started,
        runtime=answer.runtime if answer.runtime is not None else time.time() - started,
        state=info.state if info else "SUCCESS",
        error=repr(info.retval) if info else "",
        traceback=str(getattr(answer.retval, "traceback", "")) if info else "",
    )
