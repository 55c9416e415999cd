"""The next message of a chain: made by the process that has done the step, sent by its worker's main process with the
acknowledgement of the message at hand, in one round trip (decision 0016). On Redis alone; elsewhere Celery sends it.
"""

from __future__ import annotations

import base64
import json
import logging
import threading
import uuid
from collections.abc import Iterable
from functools import cached_property
from typing import TYPE_CHECKING, Any

from celery import Celery
from kombu import Connection
from kombu.utils.imports import symbol_by_name
from kombu.utils.json import dumps

from sagas.runtime.stencil import heard

if TYPE_CHECKING:
    from sagas.runtime.redis_channel import Raw

log = logging.getLogger(__name__)

TRANSPORT = "sagas.runtime.redis_channel:Transport"
OURS = "sagas.runtime.consumer:PatientConsumer"
"""The consumer whose channel sends what it is given."""
ALIKE = 2
"""So many messages of Celery's have been what a copy of the first one would have been, before there are copies."""
CHECKED = 200
"""One in so many is Celery's again."""


def on_redis(connection: Connection) -> bool:
    """Whether its broker is a Redis that kombu's own transport talks to. (Not over TLS, nor found by a Sentinel.)"""
    kind = connection.get_transport_cls()
    return connection.transport_cls == "redis" and (kind.__module__, kind.__name__) == (
        "kombu.transport.redis",
        "Transport",
    )


class Outgoing:
    """Makes messages as text; of one app."""

    def __init__(self, app: Celery) -> None:
        self._app = app
        self._lock = threading.Lock()
        """Its channel keeps what one thread publishes. None has its own: a green pool makes a thread for each task."""
        self._declared: set[str] = set()
        self._patterns: dict[tuple[Any, ...], Pattern] = {}

    @cached_property
    def _producer(self) -> Any:
        """Declares queues, and publishes to nobody; None where a worker's main process would not send for us."""
        app = self._app
        reads, writes = app.connection_for_read(), app.connection_for_write()
        if not (on_redis(reads) and on_redis(writes) and reads.as_uri() == writes.as_uri()):
            return None
        if not issubclass(symbol_by_name(app.conf.worker_consumer), symbol_by_name(OURS)):
            return None
        return app.amqp.Producer(app.connection_for_write(transport=TRANSPORT), auto_declare=False)

    def following(self, request: Any) -> list[Raw] | None:
        """What Celery would send when the task of this request has succeeded: the next one of its chain, one of ours.
        None if Celery is to do that itself.
        """
        with self._lock:
            return self._following(request)

    def _following(self, request: Any) -> list[Raw] | None:
        try:
            # Celery's tracer alone knows what a task inherits.
            if self._producer is None or self._app.conf.task_inherit_parent_priority:
                return None
            options = request.chain[-1]["options"]
            kind = (request.chain[-1]["task"], options["queue"], options.get("priority"))
            pattern = self._patterns.setdefault(kind, Pattern())
            if pattern.trusted() and not heard(self._app):
                return [pattern.copy(request)]
            made = self._by_celery(request)
            if len(made) == 1:
                pattern.learn(request, *made[0])
            return made
        except Exception as error:  # noqa: BLE001 - whatever it is: there is another way
            log.warning("the message after %s is left to Celery: %s", request.id, error)
            self.__dict__.pop("_producer", None)
            self._declared.clear()
            return None

    def _by_celery(self, request: Any) -> list[Raw]:
        """Empty where its queue expires: it is sent already."""
        *rest, hop = request.chain
        queue = hop["options"]["queue"]
        channel = self._producer.channel
        held: list[Raw] = []
        channel.held = held
        try:
            self._app.send_task(
                hop["task"],
                kwargs=hop["kwargs"],
                root_id=request.root_id,
                parent_id=request.id,
                chain=rest or None,
                producer=self._producer,
                # Once: to ask whether it is declared costs as much as the message. Nothing is sent that could fail.
                declare=[] if queue in self._declared else None,
                retry=False,
                **hop["options"],
            )
        finally:
            channel.held = None
        self._declared.add(queue)
        return held


class Pattern:
    """Messages of one task, of which only the ids and the body differ. That they do is seen, not believed: Celery makes
    one of them now and then, and when it is not the copy that would have been made there are no copies any more. (What
    the user's own code adds to each message, a trace's id say, shows at the second one.)
    """

    def __init__(self) -> None:
        self._key = ""
        self._message: dict[str, Any] = {}
        self._seen = 0
        """Of the same pattern, one after the other; less than none: there is no pattern."""

    def trusted(self) -> bool:
        if self._seen < ALIKE:
            return False
        self._seen += 1
        return self._seen % CHECKED != 0

    def learn(self, request: Any, key: str, text: str) -> None:
        """What Celery has made for this request."""
        message = json.loads(text)
        if self._seen >= 0 and self._message:
            same = (key, text) == self.copy(request, message["properties"]["delivery_tag"])
            self._seen = self._seen + 1 if same else -1
        elif self._seen >= 0:
            self._key, self._message = key, message

    def copy(self, request: Any, tag: str = "") -> Raw:
        """The message that follows the task of this request; `tag` tells it from all others."""
        *rest, hop = request.chain
        task_id, kwargs = hop["options"]["task_id"], hop["kwargs"]
        embed = {
            "callbacks": None,
            "errbacks": hop["options"].get("link_error"),
            "chain": rest or None,
            "chord": None,
        }
        message = self._message
        changed = {"id": task_id, "root_id": request.root_id, "parent_id": request.id, "kwargsrepr": repr(kwargs)}
        text = dumps(
            {
                **message,
                "body": base64.b64encode(dumps([[], kwargs, embed]).encode()).decode(),
                "headers": {**message["headers"], **changed},
                "properties": {
                    **message["properties"],
                    "correlation_id": task_id,
                    "delivery_tag": tag or str(uuid.uuid4()),
                },
            }
        )
        return self._key, text


def send(app: Celery, channel: Any, outgoing: Iterable[Raw]) -> None:
    """In a worker's main process, on the channel that brought the message they come from."""
    from sagas.runtime.redis_channel import Channel, put

    try:
        if isinstance(channel, Channel) and not channel.closed:
            channel.send(outgoing)
            return
        with app.pool.acquire(block=True) as connection:
            put(connection.default_channel, outgoing)
    except Exception as error:  # noqa: BLE001 - only hints
        log.warning("messages were not published (%s); reconcile will", error)
