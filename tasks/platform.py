"""The platform's parts, put together for one Celery app. Nothing is connected before it is used."""

from __future__ import annotations

import math
import os
import socket
from contextlib import AbstractContextManager
from functools import cached_property
from typing import TYPE_CHECKING

from celery import Celery

from models import Records, transaction
from sagas import SagaId
from sagas.jobs.ports import WorkerProvider
from sagas.jobs.types import WorkerSpec
from sagas.runtime.backlog import queue_depth
from sagas.runtime.engine import engine_of
from sagas.settings import Settings
from tasks.adapters import DatabaseBoard, DatabaseRegistry
from tasks.direct import DirectPath, DirectRun
from tasks.dispatcher import JobDispatcher
from tasks.lifecycle import WorkerLifecycleManager
from tasks.orchestrator import JobOrchestrator
from tasks.paths import FlaggedOrchestrator
from tasks.provider_settings import ProviderSettings, make_provider
from tasks.recovery import DatabaseRecoveryDesk
from tasks.sender import CelerySender
from tasks.worker_settings import WorkerSettings

if TYPE_CHECKING:
    from sagas.runtime.engine import Engine

EXTENSION = "hodei_platform"
MOST_UNREAD = 20
"""So many messages for us may wait; with more of them a worker's silence says nothing."""


class Platform:
    """What `tasks/` offers to its own tasks, to the command line and to tests."""

    def __init__(self, app: Celery) -> None:
        """Raises ConfigurationError if the environment names a provider that there is not."""
        self.app = app
        self.provider_settings = ProviderSettings.from_env(os.environ)
        self.worker_settings = WorkerSettings.from_env(os.environ)
        setattr(app, EXTENSION, self)

    # --- what there is ---------------------------------------------------------------------------------------------

    @property
    def engine(self) -> Engine:
        """The saga engine that `sagas.install` put into the app."""
        return engine_of(self.app)

    @property
    def settings(self) -> Settings:
        """`HODEI_*`."""
        return self.engine.settings

    @cached_property
    def orchestrator(self) -> JobOrchestrator:
        """Starts the platform's sagas, or what the flags say instead."""
        return FlaggedOrchestrator(self.engine.orchestrator, self.records, self.direct)

    @cached_property
    def direct(self) -> DirectPath:
        """What goes past the sagas."""
        return DirectPath(self.app, self.records, self.engine.ports)

    def publish(self, started: SagaId) -> None:
        """After the commit: the hint of a saga; what goes past one goes on."""
        if isinstance(started, DirectRun):
            self.direct.go_on(started)
        else:
            self.engine.publish(started)

    @cached_property
    def dispatcher(self) -> JobDispatcher:
        """Brings waiting jobs and workers together."""
        return JobDispatcher(
            self.records, self.orchestrator, self.publish, self.default_spec, self.settings.worker_dead
        )

    @cached_property
    def lifecycle(self) -> WorkerLifecycleManager:
        """Makes workers, and sees to those that are lost or unwanted."""
        return WorkerLifecycleManager(
            self.app,
            self.settings.require_database(),
            self.records,
            self.orchestrator,
            self.provider,
            silent_for=self.settings.worker_dead,
            gap=max(self.settings.worker_dead / 2, 2 * self.look_every),
            settings=self.worker_settings,
            here=(self.provider_settings.kind, socket.gethostname()),
            has_backlog=lambda: self.backlog("control") > MOST_UNREAD,
        )

    @property
    def look_every(self) -> float:
        """Seconds between two looks at the workers' heartbeats; a quick beat must not fill the control queue."""
        return max(self.settings.worker_beat, 1.0)

    def backlog(self, queue: str) -> float:
        """Messages that wait in a queue; infinite while the broker does not say."""
        depth = queue_depth(self.engine, queue)
        return math.inf if depth is None else depth

    @cached_property
    def sender(self) -> CelerySender:
        """Messages to workers, and hints."""
        return CelerySender(self.app)

    def provider(self) -> WorkerProvider:
        """The provider that the sagas use in this process."""
        provider: WorkerProvider = self.engine.ports[WorkerProvider]
        return provider

    def records(self) -> AbstractContextManager[Records]:
        """A transaction with the verbs on the platform's rows."""
        return transaction(self.engine.sql, self.engine.orchestrator)

    def default_spec(self) -> WorkerSpec:
        """What a worker is made from when its job asks for nothing special: its provider's own image."""
        return WorkerSpec(image="", server_address=socket.gethostname())

    # --- ports of the sagas ------------------------------------------------------------------------------------------

    def make_provider(self) -> WorkerProvider:
        """What workers of this host are: its processes, or containers."""
        return make_provider(self.provider_settings, self.settings)

    def make_registry(self) -> DatabaseRegistry:
        """The workers' rows."""
        return DatabaseRegistry(self.records, self.engine.orchestrator)

    def make_board(self) -> DatabaseBoard:
        """The jobs' rows."""
        return DatabaseBoard(self.records, self.engine.orchestrator)

    def make_desk(self) -> DatabaseRecoveryDesk:
        """Jobs that go from one worker to another."""
        return DatabaseRecoveryDesk(self.records, self.engine.orchestrator, self.orchestrator, self.default_spec)

    def make_sender(self) -> CelerySender:
        """Messages to workers."""
        return self.sender

    def add_tasks(self) -> None:
        """Register the platform's tasks in the app."""
        from tasks import direct_workers, messages, provider_host

        messages.register(self)
        provider_host.register(self)
        direct_workers.register(self)


def platform_of(app: Celery) -> Platform:
    """The platform that this app carries."""
    found = getattr(app, EXTENSION, None)
    assert isinstance(found, Platform), f"{app} carries no platform"
    return found
