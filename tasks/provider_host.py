"""A worker that consumes `provider.<host>` makes that host known as a place that workers come from."""

from __future__ import annotations

import logging
import os
import socket
import threading
from typing import TYPE_CHECKING, Any

import psutil
from celery.signals import worker_ready
from sqlalchemy.exc import SQLAlchemyError

from sagas import HodeiError
from sagas.jobs.requirements import Resources
from sagas.jobs.types import ProviderId
from sagas.runtime.install import named_queue
from tasks.provider_health import watch

if TYPE_CHECKING:
    from tasks.platform import Platform

logger = logging.getLogger(__name__)

PREFIX = "provider."
MOST_ASKED = 3
TRY_AGAIN = 2.0  # seconds, while the database is away


def register(platform: Platform) -> None:
    """A plain `celery worker` consumes its own host's queue; whoever consumes one says so to the database."""
    ours = ("events", "logs", PREFIX + socket.gethostname())
    platform.app.conf.task_queues = [*platform.app.conf.task_queues, *(named_queue(name) for name in ours)]

    def announce(sender: Any, **_: Any) -> None:
        if sender.app is not platform.app:
            return
        hosts = [queue.name.removeprefix(PREFIX) for queue in sender.task_consumer.queues if _is_ours(queue)]
        # Beside the worker's own start: a database that is away must not keep it from consuming.
        threading.Thread(target=_announce, args=(platform, hosts), name="provider host", daemon=True).start()

    worker_ready.connect(announce, weak=False)


def _is_ours(queue: Any) -> bool:
    return bool(queue.name.startswith(PREFIX))


def _announce(platform: Platform, hosts: list[str]) -> None:
    known: dict[str, ProviderId] = {}
    for host in hosts:
        while (provider_id := _try(platform, host)) is None:
            threading.Event().wait(TRY_AGAIN)
        known[host] = provider_id
    # The main process keeps no connection that a child forked later would inherit.
    platform.engine.sql.dispose()
    watch(platform, known)


def _try(platform: Platform, host: str) -> ProviderId | None:
    try:
        provider_id = register_host(platform, host)
        found = platform.lifecycle.look_at_host(host)
    except (SQLAlchemyError, HodeiError) as error:
        logger.warning("provider host %s cannot be made known, trying again: %s", host, str(error).splitlines()[0])
        return None
    logger.info(
        "provider host %s is %s; of its workers %d are given up, and the jobs of %d go to others",
        host,
        provider_id,
        len(found.terminations),
        len(found.recoveries),
    )
    return provider_id


def register_host(platform: Platform, host: str) -> ProviderId:
    """Write the provider's row if it is not there; its slots and this machine's size are only given to a new one."""
    size = Resources(cpu=os.cpu_count() or 1, memory=psutil.virtual_memory().total)
    ours = platform.provider_settings
    with platform.records() as records:
        return records.providers.register(ours.kind, host, ours.capacity, resources=size)


def ask_hosts(platform: Platform) -> None:
    """Have each host look after its own workers. A host that does not listen is not asked again and again."""
    with platform.records() as records:
        hosts = {provider.host for provider in records.providers.list() if provider.enabled}
    for host in hosts:
        if platform.backlog(PREFIX + host) <= MOST_ASKED:
            platform.app.send_task(
                "workers.reconcile",
                kwargs={"host": host},
                queue=PREFIX + host,
                expires=10,
                ignore_result=True,
                retry=False,
            )
