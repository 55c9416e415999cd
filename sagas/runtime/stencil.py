"""First messages of one kind: Celery makes the first one, the others are its copies with ids of their own.

Celery takes some 250 µs of processor for a message with its chain, most of it to build what is the same in each of them
(decision 0012).
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import Any

from celery import Celery, signals
from kombu.serialization import dumps

from sagas.runtime.publish import publish_route, published
from sagas.types import SagaId

LISTENED = (signals.before_task_publish, signals.after_task_publish, signals.task_sent)


class Stencils:
    """Of one app, in one process."""

    def __init__(self, app: Celery) -> None:
        self._app = app
        self._cut: dict[Any, _Stencil | None] = {}

    def publish(self, saga_id: SagaId | str, saga_type: str, route: Sequence[Mapping[str, Any]]) -> None:
        """As `publish_route` does, forward."""
        self.publish_all([(saga_id, route)], saga_type)

    def publish_all(
        self,
        sagas: Iterable[tuple[SagaId | str, Sequence[Mapping[str, Any]]]],
        saga_type: str,
        producer: Any = None,
    ) -> None:
        """The same for many (id and route of each); with `producer` in one batch.

        The first message of a kind in a batch declares its queue. No copies where somebody hears of each: Celery's
        signals, events.
        """
        heard = self._app.conf.task_send_sent_event or any(signal.receivers for signal in LISTENED)
        declared: set[Any] = set()
        for saga_id, route in sagas:
            if heard:
                publish_route(self._app, saga_id, saga_type, route, undo=False, producer=producer)
            elif route:
                # A fork is another process: its messages say so.
                kind = (os.getpid(), saga_type, *((hop["step"], hop["queue"], hop["priority"]) for hop in route))
                declare = kind not in declared
                if producer is not None:
                    declared.add(kind)
                published(saga_id, partial(self._copy, kind, saga_id, saga_type, route, producer, declare))

    def _copy(
        self,
        kind: tuple[Any, ...],
        saga_id: SagaId | str,
        saga_type: str,
        route: Sequence[Mapping[str, Any]],
        producer: Any,
        declare: bool,
    ) -> None:
        stencil = self._cut.get(kind)
        with self._app.producer_or_acquire(producer) as sender:
            if stencil is not None:
                stencil.publish(sender, str(saga_id), declare=declare)
                return
            recorder = _Recorder(sender)
            if publish_route(self._app, saga_id, saga_type, route, undo=False, producer=recorder) and recorder.sent:
                self._cut[kind] = _cut(str(saga_id), *recorder.sent)


class _Recorder:
    """A producer that remembers what it published."""

    def __init__(self, producer: Any) -> None:
        self._producer = producer
        self.sent: tuple[Any, dict[str, Any]] | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._producer, name)

    def publish(self, body: Any, **options: Any) -> Any:
        self.sent = body, {**options, "headers": dict(options["headers"])}
        return self._producer.publish(body, **options)


def _cut(saga_id: str, body: Any, options: dict[str, Any]) -> _Stencil | None:
    """The stencil of that message; None if its serializer makes no text, where an id could not be replaced."""
    content_type, encoding, text = dumps(body, serializer=options.pop("serializer", None))
    if not isinstance(text, str):
        return None
    chain = body[2]["chain"] or ()
    options |= {"content_type": content_type, "content_encoding": encoding}
    return _Stencil(saga_id, [hop["options"]["task_id"] for hop in chain], text, options.pop("headers"), options)


class _Stencil:
    """One message as text, and where its ids are in it: its saga's, and one for each task of its chain."""

    def __init__(
        self, saga_id: str, after: list[str], text: str, headers: dict[str, Any], options: dict[str, Any]
    ) -> None:
        self._task_id = headers["id"]
        self._saga_id = saga_id
        self._after = after
        self._text = text
        self._headers = headers
        self._options = options
        self._moving = [
            name
            for name, value in headers.items()
            if isinstance(value, str) and (saga_id in value or self._task_id in value)
        ]

    def publish(self, producer: Any, saga_id: str, *, declare: bool) -> None:
        text, task_id = self._text.replace(self._saga_id, saga_id), str(uuid.uuid4())
        for old in self._after:
            text = text.replace(old, str(uuid.uuid4()))
        headers = dict(self._headers)
        for name in self._moving:
            headers[name] = headers[name].replace(self._saga_id, saga_id).replace(self._task_id, task_id)
        options = {**self._options, "headers": headers, "correlation_id": task_id}
        producer.publish(text, **(options if declare else {**options, "declare": []}))
