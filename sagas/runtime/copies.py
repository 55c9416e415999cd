"""Messages as text for a list of Redis: Celery makes the first ones of a kind, the others are checked copies.

Celery takes 150 to 250 us of processor for a message, most of it to build what is the same in each of them. That
copies are right is seen, not believed: now and then Celery makes one, and when it is not the copy that would have been
made there are no copies of that kind any more (decision 0016).
"""

from __future__ import annotations

import base64
import json
import logging
import threading
import uuid
from collections.abc import Sequence
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any, NamedTuple

from celery import Celery
from celery.app.amqp import AMQP
from celery.app.routes import MapRoute
from kombu import Connection, Producer
from kombu.utils.json import dumps

from sagas.runtime.stencil import heard

if TYPE_CHECKING:
    from sagas.runtime.maker import Maker, Raw

log = logging.getLogger(__name__)

ALIKE = 2
"""So many messages of Celery's have been what a copy of the first one would have been, before there are copies."""
CHECKED = 200
"""One in so many is Celery's again."""
MOST = 1000
"""Kinds that are remembered; a queue's name may be of a payload."""


def on_redis(connection: Connection) -> bool:
    """Whether its broker is a Redis that kombu's own transport talks to over TCP.

    Not over TLS, nor found by a Sentinel; and for `redis+socket://` kombu takes no other transport than its own.
    """
    kind = connection.get_transport_cls()
    ours = (kind.__module__, kind.__name__) == ("kombu.transport.redis", "Transport")
    return ours and connection.transport_cls == "redis" and connection.uri_prefix is None


def shaped(app: Celery) -> bool:
    """Whether the user's own code has a say in each message: it may ask more than what the message shows."""
    own = is_own(type(app), Celery, "send_task") and "send_task" not in vars(app)
    amqp = app.amqp
    own = own and type(amqp) is AMQP and is_own(amqp.Producer, Producer, "publish")
    own = own and _is_of(amqp.send_task_message, AMQP) and _is_of(amqp.create_task_message, AMQP)
    return not (own and all(type(one) is MapRoute for one in amqp.routes))


def is_own(kind: type, base: type, name: str) -> bool:
    """Whether the class has that method of Celery's or kombu's, neither overridden nor patched."""
    method = getattr(base, name)
    return getattr(kind, name) is method and _is_of(method, base)


def _is_of(method: Any, base: type) -> bool:
    """Whether it was written where the class was."""
    return method.__module__ == base.__module__ and not hasattr(method, "__wrapped__")


class Next(NamedTuple):
    """A message to be made: the last one of this chain (of signatures as JSON), with what comes after it. `reply_to` is
    the `thread_oid` of the thread that it is of.
    """

    parent_id: str | None
    root_id: str
    chain: Sequence[dict[str, Any]]
    reply_to: str


class Copies:
    """Of one app, whose broker is a Redis (`on_redis`)."""

    def __init__(self, app: Celery) -> None:
        self._app = app
        self._lock = threading.Lock()
        """Of its one maker. No thread has its own: a green pool makes one for each task."""
        self._patterns: dict[tuple[Any, ...], Pattern | None] = {}
        """By kind; None where it is not one message for one list."""

    @cached_property
    def _maker(self) -> Maker:
        from sagas.runtime.maker import Maker

        return Maker(self._app)

    def make(self, asked: Next, *, anew: bool = False) -> Raw | None:
        """To be put into its list by somebody; None if Celery is to publish it itself. `anew`: no copy."""
        # Whoever listens may publish, too: nobody waits behind that.
        if not self._lock.acquire(timeout=0.05):
            return None
        try:
            return self._make(asked, anew)
        except Exception as error:  # noqa: BLE001 - whatever it is: there is another way
            log.warning("a message of saga %s is left to Celery: %s", asked.root_id, error)
            return None
        finally:
            self._lock.release()

    def _make(self, asked: Next, anew: bool) -> Raw | None:
        kind = _kind(asked)
        if len(self._patterns) > MOST:
            self._patterns.clear()
        pattern = self._patterns.setdefault(kind, Pattern())
        if pattern is None:
            return None
        if not anew and pattern.trusted() and not heard(self._app) and not shaped(self._app):
            return pattern.copy(asked)
        made = self._by_celery(asked)
        if made is None:
            self._patterns[kind] = None
        else:
            pattern.learn(asked, *made)
        return made

    def trusts(self, asked: Next) -> bool:
        """Whether all messages of this kind have been alike, but for what is asked."""
        pattern = self._patterns.get(_kind(asked))
        return pattern is not None and pattern.is_sure()

    def _by_celery(self, asked: Next) -> Raw | None:
        *rest, hop = asked.chain
        send = partial(
            self._app.send_task,
            hop["task"],
            kwargs=hop["kwargs"],
            root_id=asked.root_id,
            parent_id=asked.parent_id,
            chain=rest or None,
            reply_to=asked.reply_to,
            **hop["options"],
        )
        return self._maker.make(hop["options"]["queue"], send)


def _kind(asked: Next) -> tuple[Any, ...]:
    hop = asked.chain[-1]
    return hop["task"], hop["options"]["queue"], hop["options"].get("priority")


class Pattern:
    """Messages of one task, of which only the ids and the body differ."""

    def __init__(self) -> None:
        self._key = ""
        self._message: dict[str, Any] = {}
        self._seen = 0
        """Of the same pattern, one after the other; less than none: there is no pattern."""

    def is_sure(self) -> bool:
        return self._seen >= ALIKE

    def trusted(self) -> bool:
        if not self.is_sure():
            return False
        self._seen += 1
        return self._seen % CHECKED != 0

    def learn(self, asked: Next, key: str, text: str) -> None:
        """What Celery has made of this."""
        message = json.loads(text)
        if self._seen >= 0 and self._message:
            same = (key, text) == self.copy(asked, message["properties"]["delivery_tag"])
            self._seen = self._seen + 1 if same else -1
        elif self._seen >= 0:
            self._key, self._message = key, message

    def copy(self, asked: Next, tag: str = "") -> Raw:
        """`tag` tells it from all others."""
        *rest, hop = asked.chain
        task_id, kwargs = hop["options"]["task_id"], hop["kwargs"]
        embed = {
            "callbacks": None,
            "errbacks": hop["options"].get("link_error"),
            "chain": rest or None,
            "chord": None,
        }
        message = self._message
        changed = {"id": task_id, "root_id": asked.root_id, "parent_id": asked.parent_id, "kwargsrepr": repr(kwargs)}
        text = dumps(
            {
                **message,
                "body": base64.b64encode(dumps([[], kwargs, embed]).encode()).decode(),
                "headers": {**message["headers"], **changed},
                "properties": {
                    **message["properties"],
                    "correlation_id": task_id,
                    "reply_to": asked.reply_to,
                    "delivery_tag": tag or str(uuid.uuid4()),
                },
            }
        )
        return self._key, text
