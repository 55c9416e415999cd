"""What a worker's main process knows of a step's message: what is to be sent after it, and the events of the steps that
it went on to.
"""

from __future__ import annotations

import functools
from typing import Any

from kombu.utils.imports import symbol_by_name

from sagas.runtime.continued import Continued, Told
from sagas.runtime.outgoing import send


@functools.cache
def telling(base: Any) -> type:
    """That class of requests (or its import path), with the events of each step that followed in the same message."""
    return type("StepRequest", (TellsOfSteps, symbol_by_name(base)), {})


class TellsOfSteps:
    """Mixed into a class of Celery's requests."""

    task: Any
    message: Any
    _app: Any
    _eventer: Any

    def __init_subclass__(cls, **options: Any) -> None:
        """Celery makes a class for each task, with an `on_success` of its own that does not ask its base."""
        super().__init_subclass__(**options)
        succeeded = cls.__dict__.get("on_success")
        if succeeded is None:
            return

        @functools.wraps(succeeded)
        def on_success(self: Any, failed__retval__runtime: Any, **options: Any) -> Any:
            outgoing = getattr(failed__retval__runtime[1], "outgoing", ())
            if outgoing:
                send(self._app, self.message.channel, outgoing)
            return succeeded(self, failed__retval__runtime, **options)

        cls.on_success = on_success  # type: ignore[attr-defined]

    def send_event(self, type: str, **fields: Any) -> None:
        result = fields.get("result")
        if not isinstance(result, Continued) or result.ended is None:
            super().send_event(type, **fields)  # type: ignore[misc]
            return
        super().send_event(type, **fields, timestamp=result.ended)  # type: ignore[misc]
        if self._eventer and self._eventer.enabled and self.task.send_events:
            for step in result.steps:
                self._tell(step)

    def _tell(self, step: Told) -> None:
        """As Celery would: received, started, and how it ended."""
        send, begun, ended = self._eventer.send, step.started, step.started + step.runtime
        send(
            "task-received",
            uuid=step.uuid,
            name=step.name,
            args="()",
            kwargs=step.kwargs,
            root_id=step.root_id,
            parent_id=step.parent_id,
            retries=0,
            eta=None,
            expires=None,
            timestamp=begun,
        )
        send("task-started", uuid=step.uuid, timestamp=begun)
        if step.state == "SUCCESS":
            send("task-succeeded", uuid=step.uuid, result="None", runtime=step.runtime, timestamp=ended)
        else:
            kind = "task-retried" if step.state == "RETRY" else "task-failed"
            send(kind, uuid=step.uuid, exception=step.error, traceback=step.traceback, timestamp=ended)
