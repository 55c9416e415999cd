"""What one app's engine consists of; each part is made when it is first used."""

from __future__ import annotations

import socket
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any
from uuid import UUID

from sagas.errors import ConfigurationError, UnknownSaga
from sagas.events import Subscriber
from sagas.registry import Registry
from sagas.runtime.consuming import Consuming
from sagas.runtime.continuation import Continuation
from sagas.runtime.process import claimant
from sagas.runtime.publish import publish_found
from sagas.runtime.runner import Runner
from sagas.settings import Settings
from sagas.store.database import connect_engine
from sagas.store.definitions import register
from sagas.store.relay import subscribe, subscriptions_of
from sagas.store.repository import SagaRepository
from sagas.store.requests import Claimant
from sagas.store.store import Store
from sagas.types import SagaId

if TYPE_CHECKING:
    import sqlalchemy as sa
    from celery import Celery

    from sagas.runtime.orchestrator import Orchestrator


class Ports(Mapping[type, Any]):
    """Adapters by Protocol. A function is a factory: it is called once, in the process that first asks."""

    def __init__(self, bound: Mapping[type, Any]) -> None:
        self._bound = dict(bound)
        self._made: dict[type, Any] = {}

    def __getitem__(self, protocol: type) -> Any:
        if protocol not in self._made:
            adapter = self._bound[protocol]
            self._made[protocol] = adapter() if callable(adapter) else adapter
        return self._made[protocol]

    def __iter__(self) -> Any:
        return iter(self._bound)

    def __len__(self) -> int:
        return len(self._bound)


@dataclass
class Engine:
    """The engine of one Celery app: `engine_of(app)`."""

    app: Celery
    settings: Settings
    registry: Registry = field(default_factory=Registry)
    ports: Mapping[type, Any] = field(default_factory=lambda: Ports({}))
    shadow_ports: Mapping[type, Any] = field(default_factory=lambda: Ports({}))
    """What a shadow saga's steps get in place of `ports`: adapters without an effect outside."""
    incarnation: UUID | None = None
    """Of this worker: minted when its main process starts, inherited by its pool. None in other processes."""
    subscribers: tuple[Subscriber, ...] = ()
    consuming: Consuming = field(default_factory=Consuming)
    """Of this worker, as its incarnation."""
    keeps: bool = False
    """Whether its store keeps a connection from the start (`Store`)."""

    @cached_property
    def sql(self) -> sa.Engine:
        """Lazy; raises ConfigurationError if no database is known."""
        return connect_engine(self.settings.require_database(), schema=self.settings.db_schema)

    @cached_property
    def store(self) -> Store:
        return Store(self.sql, self.settings.db_schema, keeps=self.keeps)

    @cached_property
    def repository(self) -> SagaRepository:
        return SagaRepository(self.store)

    @cached_property
    def runner(self) -> Runner:
        return Runner(self.store, self.registry, self.ports, self.settings, self.shadow_ports)

    @cached_property
    def continuation(self) -> Continuation:
        return Continuation(self)

    @cached_property
    def orchestrator(self) -> Orchestrator:
        from sagas.runtime.orchestrator import Orchestrator

        return Orchestrator(self)

    def claimant(self, hostname: str | None) -> Claimant:
        """Who claims here; `hostname` is what Celery calls this worker (`request.hostname`)."""
        return claimant(hostname or f"celery@{socket.gethostname()}", self.incarnation)

    def register_definitions(self) -> None:
        """Write the loaded definitions and subscriptions. Raises DefinitionError, StorageUnavailable."""
        register(self.sql, self.registry, self.settings)
        subscribe(self.sql, subscriptions_of(self.subscribers, self.settings))

    def check_payload(self, saga_type: str, *payloads: Mapping[str, Any]) -> None:
        """Refuse what does not fit the declared schema, before anything durable is written (P12): InvalidPayload."""
        try:
            saga = self.registry.latest(saga_type)
        except UnknownSaga:
            return  # another worker's saga: the database knows whether it exists
        for payload in payloads:
            saga.check_payload(payload)

    def publish(self, saga_id: SagaId | str) -> None:
        """Hint after a commit: publish what is due for this saga, if nobody has yet."""
        publish_found(self.app, self.store.hint(SagaId(saga_id)))

    def forget_connections(self) -> None:
        """In a pool's child, whose calls come one by one."""
        if "sql" in self.__dict__:
            self.store.forget_connections()
        if self.settings.database_url:
            self.store.keeps = True


def engine_of(app: Celery) -> Engine:
    """The engine that `sagas.install(app)` has put there; raises ConfigurationError if there is none."""
    engine = getattr(app, "hodei_engine", None)
    if not isinstance(engine, Engine):
        raise ConfigurationError(f"Celery app {app.main!r} has no sagas; call sagas.install(app) where it is made")
    return engine
