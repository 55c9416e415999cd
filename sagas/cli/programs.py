"""What a system consists of: the command lines of its processes."""

from __future__ import annotations

import importlib
import importlib.util
import os
import socket
import sys
import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from sagas.cli.main import project_root
from sagas.cli.system import Home
from sagas.errors import ConfigurationError, HodeiError

if TYPE_CHECKING:
    from celery import Celery

PLATFORM_APP = "tasks"


@dataclass(frozen=True)
class Program:
    """One supervised process."""

    name: str
    argv: tuple[str, ...]
    log: Path
    node: str | None = None  # the name of its Celery node, if it is one
    stop_signal: str = "TERM"
    user: str | None = None
    server: bool = False  # started before the others, stopped after them


def load_app(name: str) -> Celery:
    """The Celery app that `celery -A name` would find. Raises ConfigurationError."""
    from celery.app.utils import find_app

    # As `celery -A` does; the console script alone does not have the working directory on its path.
    sys.path.insert(0, str(Path.cwd()))
    try:
        app = find_app(name)
        app.loader.import_default_modules()
    except HodeiError:
        raise
    # An app is somebody's code and may raise anything when it is imported.
    except Exception as error:
        where = traceback.extract_tb(error.__traceback__)[-1]
        place = "" if isinstance(error, ImportError) else f" ({where.filename}, line {where.lineno})"
        raise ConfigurationError(
            f"the Celery app '{name}' cannot be loaded: {type(error).__name__}: {error}{place}"
        ) from error
    return app


def user_queues(app: Celery) -> tuple[str, ...]:
    """Each `queue=` that a definition of the app names; none where the engine is not installed in it."""
    install = importlib.import_module("sagas.runtime.install")
    return tuple(install.user_queues(app))


def step_queues(extra: tuple[str, ...]) -> tuple[str, ...]:
    """What the worker for steps consumes: the engine's queues, and those that definitions name."""
    return tuple(dict.fromkeys(("steps", "events", "logs", *extra)))


def flower_argv(app: str, port: int) -> tuple[str, ...]:
    """The command line of Flower on 127.0.0.1. Raises ConfigurationError if it is not installed."""
    if importlib.util.find_spec("flower") is None:
        raise ConfigurationError("Flower is not installed: pip install 'hodei-sagas[flower]', or use --no-flower")
    settings = project_root() / "flowerconfig.py"
    ours = (f"--conf={settings}",) if settings.exists() else ()
    return celery_argv(app, "flower", "--address=127.0.0.1", f"--port={port}", *ours)


def celery_argv(app: str, *words: str) -> tuple[str, ...]:
    """A `celery` command line that runs in this same environment."""
    return (sys.executable, "-m", "celery", "-A", app, *words)


def programs(
    home: Home, app: str, queues: tuple[str, ...], concurrency: int | None, flower_port: int | None
) -> list[Program]:
    """The processes of a system besides its servers: workers, beat, and Flower if it has a port."""
    host = socket.gethostname()

    def worker(name: str, queues: tuple[str, ...], concurrency: int) -> Program:
        node = f"{name}@{host}"
        # Neither mingle nor gossip: nothing of ours uses them, and each delays a restart.
        quick = ("--without-mingle", "--without-gossip")
        words = ("-Q", ",".join(queues), "-n", node, "-c", str(concurrency), "-E", "-l", "INFO", *quick)
        return Program(name, celery_argv(app, "worker", *words), home.logs / f"{name}.log", node)

    found = [
        worker("steps", step_queues(queues), concurrency or os.cpu_count() or 2),
        # Its own small worker: rollback and reconcile never wait behind new work.
        worker("control", ("control", "compensations"), 2),
    ]
    if app == PLATFORM_APP:
        found.append(worker("provider", (f"provider.{host}",), 2))
    # No pid file: a stale one of a killed run would be in the way, and the supervisor knows its process.
    beat = celery_argv(app, "beat", "-s", str(home.beat), "--pidfile=", "-l", "INFO")
    found.append(Program("beat", beat, home.logs / "beat.log"))
    if flower_port is not None:
        found.append(Program("flower", flower_argv(app, flower_port), home.logs / "flower.log"))
    return found
