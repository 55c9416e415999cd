"""Loaded in a worker: when its main process takes a message, hands it on to its pool, and asks for the next one."""

from typing import Any

from celery import signals
from celery.concurrency.asynpool import AsynPool
from kombu.asynchronous import Hub
from kombu.transport.redis import Channel

from tests.harness.effects import record

WRITE, ASK = AsynPool._create_write_handlers, Channel._brpop_start


@signals.task_received.connect
def taken(**_: Any) -> None:
    record("taken")


def watched(self: AsynPool, hub: Hub, **options: Any) -> None:
    WRITE(self, hub, **options)
    write = hub.consolidate_callback

    def hand_on(fds: list[int]) -> None:
        if self.outbound_buffer:
            record("handed on")
        write(fds)

    hub.consolidate_callback = hand_on


def ask(self: Channel, *arguments: Any, **options: Any) -> None:
    record("asked")
    ASK(self, *arguments, **options)


AsynPool._create_write_handlers = watched
Channel._brpop_start = ask
