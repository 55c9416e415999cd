"""Messages as text for lists of Redis: made by Celery's own code and kombu's, on a channel connected to nobody."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import Any

from celery import Celery
from kombu.transport import redis
from kombu.utils.json import dumps

Raw = tuple[str, str]
"""The list's key (without a prefix for all keys), and the text."""


class Maker:
    """Of one app, whose broker is a Redis (`copies.on_redis`); for one thread at a time."""

    def __init__(self, app: Celery) -> None:
        self._app = app

    @cached_property
    def _producer(self) -> Any:
        return self._app.amqp.Producer(self._app.connection_for_write(transport=_Transport), auto_declare=False)

    def make(self, queue: str, send: Callable[..., object]) -> Raw | None:
        """What `send` publishes, given options of `send_task`; None where one `LPUSH` would not be all of it: several
        queues, one that an exchange finds, one whose life is told with each message, an event of it besides.
        """
        if self._app.conf.task_send_sent_event:
            return None
        declared = self._app.amqp.queues[queue]
        direct = declared.exchange is None or declared.exchange.type == "direct"
        if not direct or declared.expires is not None or "x-expires" in (declared.queue_arguments or {}):
            return None
        made: list[Raw] = []
        producer = self._producer
        channel = producer.channel
        if not isinstance(channel, _Channel):  # it would go out
            return None
        channel.made = made
        # Nothing is sent that could fail. A list of Redis need not be declared; who consumes it has.
        send(producer=producer, declare=[], retry=False)
        return made[0] if len(made) == 1 else None


class _Channel(redis.Channel):
    """What is published is kept."""

    made: list[Raw]

    class client:  # noqa: N801 - kombu's name
        """Nobody, who is there."""

        ping = staticmethod(lambda: True)

    def basic_publish(self, message: dict[str, Any], exchange: str, routing_key: str, **kwargs: Any) -> None:
        """Only what goes to one queue by its name: what an exchange does with it is written in Redis."""
        if not exchange:
            super().basic_publish(message, exchange, routing_key, **kwargs)

    def _put(self, queue: str, message: dict[str, Any], **kwargs: Any) -> None:
        priority = self._get_message_priority(message, reverse=False)
        self.made.append((self._q_for_pri(queue, priority), dumps(message)))


class _Transport(redis.Transport):
    Channel = _Channel
