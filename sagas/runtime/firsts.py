"""First messages of sagas, as text for a list of Redis: one that is trusted (`copies`) with other ids in it.

To build what is the same in each of them anew takes 0.3 ms on an idle machine, and the saga waits (decision 0019).
"""

from __future__ import annotations

import base64
import json
import uuid
from collections.abc import Mapping, Sequence
from typing import Any

from celery import Celery

from sagas.runtime.copies import MOST, Copies, Next, shaped
from sagas.runtime.maker import Raw
from sagas.runtime.publish import hops
from sagas.runtime.stencil import heard, listened

OFTEN = 100
"""So many messages are of one pattern; then it is asked again whether there may be one, and another one is taken."""


class Firsts:
    """Of one app, whose broker is a Redis (`on_redis`)."""

    def __init__(self, app: Celery) -> None:
        self._app = app
        self._copies = Copies(app)
        self._patterns: dict[Any, _Pattern] = {}

    def make(self, saga_id: str, saga_type: str, route: Sequence[Mapping[str, Any]], reply_to: str) -> Raw | None:
        """None if Celery is to publish it itself, because somebody could tell, or it is not one text for one list."""
        if listened():
            return None
        kind = (saga_type, *((hop["step"], hop["queue"], hop["priority"]) for hop in route))
        pattern = self._patterns.get(kind)
        if pattern is not None and pattern.left > 0:
            return pattern.copy(saga_id, reply_to)
        app = self._app
        if heard(app) or shaped(app):
            return None
        asked = Next(None, saga_id, hops(saga_id, saga_type, route, undo=False)[::-1], reply_to)
        made = self._copies.make(asked, anew=True)
        if made is not None and self._copies.trusts(asked):
            if len(self._patterns) > MOST:
                self._patterns.clear()
            self._patterns[kind] = _Pattern(asked, *made)
        return made


class _Pattern:
    """A message that was made, and where its ids are."""

    def __init__(self, made: Next, key: str, text: str) -> None:
        message = json.loads(text)
        task_id, *after = [hop["options"]["task_id"] for hop in reversed(made.chain)]
        self.left = OFTEN
        self._key = key
        self._body = base64.b64decode(message["body"]).decode()
        self._head, self._tail = text.split(message["body"], 1)
        self._saga_id = made.root_id
        self._after = after
        self._own = (task_id, message["properties"]["delivery_tag"])
        self._reply_to = made.reply_to

    def copy(self, saga_id: str, reply_to: str) -> Raw:
        self.left -= 1
        body = self._body.replace(self._saga_id, saga_id)
        for one in self._after:
            body = body.replace(one, str(uuid.uuid4()))
        ids = [(self._saga_id, saga_id), (self._reply_to, reply_to), *((one, str(uuid.uuid4())) for one in self._own)]
        head, tail = self._head, self._tail
        for old, new in ids:
            head, tail = head.replace(old, new), tail.replace(old, new)
        return self._key, f"{head}{base64.b64encode(body.encode()).decode()}{tail}"
