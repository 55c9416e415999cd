"""Many first messages of one kind: Celery makes the first one, the others are its copies with ids of their own.

Celery takes some 250 µs of processor for a message with its chain, most of it to build what is the same in each of them
(decision 0012).
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from celery import Celery, signals
from kombu.serialization import dumps

from sagas.runtime.publish import PACK, pack, publish_route, published
from sagas.types import SagaId

LISTENED = (signals.before_task_publish, signals.after_task_publish, signals.task_sent)


def listened() -> bool:
    """Whether somebody in this process hears of each message that it sends, by Celery's signals."""
    return any(signal.receivers for signal in LISTENED)


def heard(app: Celery) -> bool:
    """Whether anybody does: by Celery's signals, by events."""
    return listened() or bool(app.conf.task_send_sent_event)


class Stencils:
    """Of one batch of messages; `producer` is what it goes out by.

    Not for longer: what Celery works out for each message (when it expires, who its parent is, where a router sends it)
    is that of the batch's first one.
    """

    def __init__(self, app: Celery, producer: Any) -> None:
        self._app = app
        self._producer = producer
        self._cut: dict[Any, _Stencil | None] = {}
        self._refused: set[Any] = set()
        """Of these kinds one was not published: the others would wait for the broker as long, and are reconcile's."""
        self._heard = heard(app)

    def publish(
        self,
        saga_id: SagaId | str,
        saga_type: str,
        route: Sequence[Mapping[str, Any]],
        brings: Sequence[str] = (),
    ) -> None:
        """As `publish_route` does, forward. No copies where somebody hears of each."""
        kind = (saga_type, *((hop["step"], hop["queue"], hop["priority"]) for hop in route))
        if kind not in self._refused and not self._publish(kind, saga_id, saga_type, route, brings):
            self._refused.add(kind)

    def _publish(
        self,
        kind: Any,
        saga_id: SagaId | str,
        saga_type: str,
        route: Sequence[Mapping[str, Any]],
        brings: Sequence[str],
    ) -> bool:
        publish = partial(publish_route, self._app, saga_id, saga_type, route, undo=False, brings=brings)
        if self._heard:
            return publish(producer=self._producer)
        stencil = self._cut.get(kind)
        if stencil is None:
            recorder = _Recorder(self._producer)
            taken = publish(producer=recorder)
            if taken and recorder.sent:
                self._cut[kind] = _cut(str(saga_id), *recorder.sent)
            return taken
        own = pack(brings, route) if brings else {}
        return published(saga_id, partial(stencil.publish, self._producer, str(saga_id), own))


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
    """The stencil of that message; None if its ids cannot be replaced: its serializer makes no text, or hides them."""
    content_type, encoding, text = dumps(body, serializer=options.pop("serializer", None))
    if not isinstance(body, tuple) or not isinstance(text, str):
        return None  # a dict is the body of Celery's protocol 1, whose ids are elsewhere
    after = [hop["options"]["task_id"] for hop in body[2]["chain"] or ()]
    if any(one not in text for one in (saga_id, *after)):
        return None
    # The first one has declared its queue on this connection.
    options |= {"content_type": content_type, "content_encoding": encoding, "declare": []}
    headers = {name: value for name, value in options.pop("headers").items() if name != PACK}
    return _Stencil(saga_id, after, text, headers, options)


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

    def publish(self, producer: Any, saga_id: str, own: dict[str, Any]) -> None:
        """`own`: further headers of this message alone."""
        text, task_id = self._text.replace(self._saga_id, saga_id), str(uuid.uuid4())
        for old in self._after:
            text = text.replace(old, str(uuid.uuid4()))
        headers = {**self._headers, **own}
        for name in self._moving:
            headers[name] = headers[name].replace(self._saga_id, saga_id).replace(self._task_id, task_id)
        producer.publish(text, **{**self._options, "headers": headers, "correlation_id": task_id})
