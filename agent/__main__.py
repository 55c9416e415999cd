"""`python -m agent`: start the agent of one worker, run until SIGTERM or `agent.shutdown`."""

from __future__ import annotations

import fcntl
import logging
import os
import signal
import sys
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import Any

from celery.worker import state

from agent.app import add_tasks, make_app
from agent.core import Agent
from agent.settings import AgentSettings


def main() -> int:
    """Exit code 0 after a wish to stop, 1 (with one line) if it cannot start or its consumer failed."""
    # Celery's own handler comes only when its worker starts; by then the agent has sent, and may be told to stop.
    signal.signal(signal.SIGTERM, _stop_soon)
    try:
        settings = AgentSettings.from_env(os.environ)
        settings.home.mkdir(parents=True, exist_ok=True)
        lock = (settings.home / "agent.lock").open("w")
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        sys.exit("agent: another agent of this worker is running")
    except (ValueError, OSError) as error:
        sys.exit(f"agent: {error}")
    os.chdir(settings.home)
    _log_to(settings.home / "agent.log")
    return _run(settings)


def _stop_soon(_signal: int, _frame: Any) -> None:
    state.should_stop = 0


def _log_to(path: Path) -> None:
    handler = RotatingFileHandler(path, maxBytes=5_000_000, backupCount=1)
    logging.basicConfig(
        handlers=[handler], level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )


def _run(settings: AgentSettings) -> int:
    app = make_app(settings)
    agent = Agent(settings, app)
    add_tasks(app, agent)
    agent.start()
    worker = app.Worker(
        hostname=f"agent.{settings.worker_id}@%h",
        queues=[f"worker.{settings.worker_id}"],
        pool_cls="solo",
        concurrency=1,
        without_gossip=True,
        without_mingle=True,
        loglevel="INFO",
        quiet=True,
    )
    try:
        worker.start()
    except SystemExit:
        logging.getLogger("agent").info("consumer ended")
    finally:
        agent.stop()
    return 0 if state.should_stop == 0 else int(worker.exitcode or 0)


if __name__ == "__main__":
    sys.exit(main())
