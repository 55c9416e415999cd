"""The app itself: its settings by path, the engine with the platform's sagas, the platform's own tasks."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from celery import Celery, signals

import sagas
from sagas import HodeiError
from sagas.jobs.execution import ExecutionSaga
from sagas.jobs.ports import CommandSender, JobBoard, RecoveryDesk, WorkerProvider, WorkerRegistry
from sagas.jobs.provisioning import REGISTER_TIMEOUT, ProvisioningSaga
from sagas.jobs.recovery import RecoverySaga
from sagas.jobs.termination import TerminationSaga
from sagas.runtime.command_line import one_line_under_celery
from sagas.settings import Settings
from tasks.platform import Platform
from tasks.shadow_ports import shadow_ports

CONFIGURATION = Path(__file__).resolve().parent.parent / "celeryconfig.py"
DISPATCH_EVERY = 1.0  # seconds; the hint at submission is what makes it fast
JOBS_DUE_EVERY = 5.0  # seconds between two looks at jobs that are due


def configuration() -> ModuleType:
    """Our `celeryconfig.py`, by its path: one in somebody's working directory never replaces it."""
    spec = importlib.util.spec_from_file_location("hodei_celeryconfig", CONFIGURATION)
    assert spec is not None and spec.loader is not None, CONFIGURATION
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def make_app(
    ports: Mapping[type, Any] | None = None,
    register_timeout: float = REGISTER_TIMEOUT,
    shadow: Mapping[type, Any] | None = None,
    **options: Any,
) -> Celery:
    """A Celery app that carries the platform.

    `ports` replaces adapters, `shadow` those of shadow sagas; `register_timeout` is what an agent has to come up
    (seconds), `options` go to `sagas.install`.
    """
    app = Celery("hodei", set_as_current=True)
    app.config_from_object(configuration())
    with one_line_under_celery():
        platform = Platform(app)
    bound: dict[type, Any] = {
        WorkerProvider: platform.make_provider,
        WorkerRegistry: platform.make_registry,
        JobBoard: platform.make_board,
        CommandSender: platform.make_sender,
        RecoveryDesk: platform.make_desk,
        **(ports or {}),
    }
    provisioning = ProvisioningSaga(register_timeout=register_timeout)
    definitions = [provisioning, ExecutionSaga(), TerminationSaga(), RecoverySaga()]
    shadowed = shadow_ports(platform.records, shadow)
    sagas.install(app, sagas=definitions, ports=bound, shadow_ports=shadowed, **options)
    platform.add_tasks()
    use_broker(app, platform.settings)
    app.conf.beat_schedule = {
        **app.conf.beat_schedule,
        # A tick that nobody consumed is worth nothing: the next one does the same.
        "jobs.dispatch": {
            "task": "jobs.dispatch",
            "schedule": DISPATCH_EVERY,
            "options": {"queue": "control", "expires": 10},
        },
        "jobs.reconcile": {
            "task": "jobs.reconcile",
            "schedule": JOBS_DUE_EVERY,
            "options": {"queue": "control", "expires": 10},
        },
        "workers.check_heartbeats": {
            "task": "workers.check_heartbeats",
            "schedule": platform.look_every,
            "options": {"queue": "control", "expires": 10},
        },
    }
    return app


def use_broker(app: Celery, settings: Settings) -> None:
    """The broker of HODEI_BROKER_URL. Without one a worker or a beat ends with one line."""
    if settings.broker_url:
        app.conf.broker_url = settings.broker_url
        if settings.broker_url.startswith(("redis", "sentinel", "valkey")):
            app.conf.broker_transport_options = {
                "visibility_timeout": settings.visibility_timeout,
                # What a dead worker held comes back within seconds of its visibility time-out, not minutes.
                "unacked_restore_interval": 5,
                "unacked_restore_throttle": 1,
                "socket_connect_timeout": 5,
                "socket_keepalive": True,
            }
        return

    def refuse(**_: Any) -> None:
        try:
            settings.require_broker()
        except HodeiError as error:
            sys.stderr.write(f"hodei: {error}\n")
            raise SystemExit(1) from None

    signals.celeryd_init.connect(refuse, weak=False)
    signals.beat_init.connect(refuse, weak=False)


app = make_app()
