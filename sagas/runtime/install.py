"""`sagas.install(app)`: sagas in somebody's own Celery app, whose other settings stay as they are."""

from __future__ import annotations

import logging
import sys
import threading
import uuid
from collections.abc import Iterable, Mapping
from typing import Any

from celery import Celery, signals
from kombu import Exchange, Queue

from sagas.definition import Saga
from sagas.errors import ConfigurationError, HodeiError, StorageUnavailable
from sagas.registry import Registry
from sagas.runtime.command_line import one_line_under_celery
from sagas.runtime.consuming import Consuming
from sagas.runtime.engine import Engine, Ports, engine_of
from sagas.runtime.nodes import Heartbeat
from sagas.runtime.publish import COMPENSATIONS, CONTROL
from sagas.runtime.subscribers import EVENTS, find_subscribers, register_subscriber_tasks
from sagas.runtime.tasks import register_engine_tasks, register_step_tasks
from sagas.settings import Settings, load

log = logging.getLogger(__name__)

__all__ = ["engine_of", "install", "user_queues"]

# Of the engine; a plain `celery worker` consumes them, and each queue that a loaded definition names.
ENGINE_QUEUES = ("steps", COMPENSATIONS, CONTROL, EVENTS)


@one_line_under_celery()
def install(
    app: Celery,
    *,
    modules: Iterable[str] = (),
    sagas: Iterable[Saga] = (),
    ports: Mapping[type, Any] | None = None,
    shadow_ports: Mapping[type, Any] | None = None,
    settings: Settings | None = None,
    **overrides: Any,
) -> Engine:
    """Register step tasks, queues and beat entries in `app`. Call it after the app's configuration is loaded.

    `modules` are import names in which `Saga` objects are looked for (besides HODEI_SAGA_MODULES), `ports` binds
    Protocols to adapters or to functions that make them, `shadow_ports` those that shadow sagas get instead, and every
    setting of the design's section 11 is a keyword
    (`database_url="postgresql://..."`, `step_timeout=60`). Raises ConfigurationError for what would break a promise.
    """
    known = settings or _settings(overrides)
    _refuse(app)
    registry = Registry(sagas)
    loaded = [*known.saga_modules, *modules]
    registry.load_modules(loaded)
    subscribers = find_subscribers(loaded, registry)
    engine = Engine(app, known, registry, Ports(ports or {}), Ports(shadow_ports or {}), subscribers=subscribers)
    app.hodei_engine = engine
    register_engine_tasks(app, engine)
    register_step_tasks(app, engine, list(registry))
    register_subscriber_tasks(app, engine)
    if app.conf.worker_consumer == "celery.worker.consumer:Consumer":
        # By its name: a client that has the app installed does not import the worker.
        app.conf.worker_consumer = "sagas.runtime.consumer:PatientConsumer"
    _declare_queues(app, engine)
    _schedule(app, known)
    _Lifecycle(engine).connect()
    return engine


def user_queues(app: Celery) -> list[str]:
    """Queues that the loaded definitions name beyond the engine's own, but for those that depend on a payload."""
    engine = engine_of(app)
    named = {queue for saga in engine.registry for step in saga.steps for queue in (step.queue, step.undo_queue)}
    named |= {subscriber.queue for subscriber in engine.subscribers}
    return sorted(queue for queue in named if queue not in ENGINE_QUEUES and "{" not in queue)


def _settings(overrides: Mapping[str, Any]) -> Settings:
    unknown = sorted(set(overrides) - set(Settings.__dataclass_fields__))
    if unknown:
        raise ConfigurationError(f"sagas.install has no setting {unknown[0]!r}")
    return load(**overrides)


def _refuse(app: Celery) -> None:
    """What would break a promise, in one line."""
    conf = app.conf
    if conf.task_always_eager:
        raise ConfigurationError("task_always_eager=True runs steps without a broker or a second try; remove it")
    pickle = {"pickle", "application/x-python-serialize"}
    if conf.task_serializer in pickle or pickle & set(conf.accept_content or ()):
        raise ConfigurationError("pickle is among the app's serializers; sagas take JSON only: accept_content=['json']")
    for pattern, options in (conf.task_annotations or {}).items() if isinstance(conf.task_annotations, dict) else ():
        if isinstance(options, dict) and options.get("acks_late") is False:
            raise ConfigurationError(
                f"task_annotations[{pattern!r}] acknowledges early; a step's message must outlive its worker"
            )


def _declare_queues(app: Celery, engine: Engine) -> None:
    """Add ours to the app's own; an app without `task_queues` keeps its default queue."""
    own = list(app.conf.task_queues or [])
    if not own:
        own = [Queue(app.conf.task_default_queue)]
    names = {queue if isinstance(queue, str) else queue.name for queue in own}
    ours = [name for name in (*ENGINE_QUEUES, *user_queues(app)) if name not in names]
    app.conf.task_queues = [*own, *(named_queue(name) for name in ours)]


def named_queue(name: str) -> Queue:
    """A queue with an exchange and a routing key of its own: never bound to the app's default ones."""
    return Queue(name, Exchange(name, type="direct"), routing_key=name)


def _schedule(app: Celery, settings: Settings) -> None:
    every = settings.reconcile_every
    # A tick that nobody took in time is void: ticks do not pile up work for whoever comes back.
    options = {"queue": CONTROL, "expires": max(every * 10, 10.0), "ignore_result": True}
    # One message for reconcile and the relay: to send and to take one costs more than what they look at.
    tick = {"task": "sagas.reconcile", "schedule": every, "options": options}
    app.conf.beat_schedule = {**(app.conf.beat_schedule or {}), "sagas.reconcile": tick}


class _Lifecycle:
    """What the engine does when this app's processes start and fork."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def connect(self) -> None:
        # Kept on the app: signals hold their receivers weakly.
        self._engine.app.hodei_lifecycle = self
        signals.worker_init.connect(self.on_start)
        signals.worker_ready.connect(self.on_ready)
        signals.beat_init.connect(self.on_start)
        signals.worker_process_init.connect(self.on_fork)

    def on_start(self, sender: Any = None, **_: Any) -> None:
        """Write the definitions; what only a person can mend ends the process with one line."""
        if getattr(sender, "app", self._engine.app) is not self._engine.app:
            return
        self._engine.incarnation = uuid.uuid4()
        self._engine.consuming = Consuming()
        try:
            self._engine.register_definitions()
        except StorageUnavailable as error:
            if "hodei db upgrade" in str(error):
                _exit(error)
            log.warning("%s; the definitions are written when it is back", error)
            threading.Thread(target=self._keep_trying, daemon=True, name="hodei-definitions").start()
        except HodeiError as error:
            _exit(error)
        finally:
            # The pool's children are forked after this: they must find no open connection.
            if "sql" in self._engine.__dict__:
                self._engine.sql.dispose()

    def on_ready(self, sender: Any = None, **_: Any) -> None:
        """The worker consumes: from now on its main process says that it is alive."""
        if sender.app is not self._engine.app:
            return
        queues = sorted(queue.name for queue in sender.task_consumer.queues)
        Heartbeat(self._engine, sender.hostname, queues).start()

    def _keep_trying(self) -> None:
        pause = threading.Event()
        while not pause.wait(2.0):
            try:
                self._engine.register_definitions()
            except StorageUnavailable:
                continue
            except HodeiError:
                log.exception("the definitions were not written")
            return

    def on_fork(self, **_: Any) -> None:
        self._engine.forget_connections()


def _exit(error: HodeiError) -> None:
    sys.stderr.write(f"hodei: {error}\n")
    sys.stderr.flush()
    raise SystemExit(1)
