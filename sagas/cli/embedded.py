"""PostgreSQL and a Redis-compatible server from wheels, as child processes with their data in a directory of ours.

A `Plan` says how a server is run: `start_postgres` and `start_valkey` run it, `hodei up` hands it to its supervisor.
"""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from sagas.cli.plans import (
    Plan,
    clean_environment,
    last_line,
    plan_postgres,
    plan_valkey,
    stop_earlier_postgres,
    stop_earlier_valkey,
)
from sagas.cli.processes import forget_socket_directory
from sagas.cli.servers import DATABASE, create_database, postgres_answers, valkey_answers
from sagas.cli.unprivileged import as_user
from sagas.errors import ConfigurationError

__all__ = [
    "DATABASE",
    "Plan",
    "Server",
    "clean_environment",
    "last_line",
    "plan_postgres",
    "plan_valkey",
    "start_postgres",
    "start_valkey",
    "stop_earlier_postgres",
    "stop_earlier_valkey",
]

START_TIMEOUT = 60.0


@dataclass(frozen=True)
class Server:
    """A running server and how to stop it."""

    plan: Plan
    child: subprocess.Popen[bytes]

    @property
    def url(self) -> str:
        return self.plan.url

    @property
    def pid(self) -> int:
        return self.child.pid

    def stop(self) -> None:
        """Stop the server and wait; fine if it is stopped already."""
        if self.child.poll() is None:
            self.child.send_signal(self.plan.stop_signal)
            try:
                self.child.wait(15)
            except subprocess.TimeoutExpired:
                self.child.kill()
                self.child.wait(15)
        forget_socket_directory(self.plan.directory)


def start_postgres(directory: Path) -> Server:
    """Start PostgreSQL with its data in `directory`, on a Unix socket only; its database is there and answers.

    A server that an earlier run left in `directory` is stopped first. Raises ConfigurationError.
    """
    plan = plan_postgres(directory)
    server = _run(plan, postgres_answers)
    try:
        create_database(plan.url)
    except BaseException:
        server.stop()
        raise
    return server


def start_valkey(directory: Path, port: int | None = None) -> Server:
    """Start a Redis-compatible server in `directory` on 127.0.0.1 and `port` (None: a free one), nothing on disk.

    A server that an earlier run left in `directory` is stopped first. Raises ConfigurationError.
    """
    for attempt in range(5):
        plan = plan_valkey(directory, port)
        try:
            return _run(plan, valkey_answers)
        except ConfigurationError:
            # Between choosing a free port and binding it, somebody else may have taken it.
            if port is not None or attempt == 4:
                raise
    raise AssertionError("unreachable")


def wait_until_answers(plan: Plan, answers: Callable[[str], bool], still_runs: Callable[[], bool]) -> None:
    """Wait until the server of `plan` answers. Raises ConfigurationError with the last line of its log."""
    deadline = time.monotonic() + START_TIMEOUT
    while not answers(plan.url):
        if not still_runs() or time.monotonic() > deadline:
            raise ConfigurationError(f"{plan.name} did not start: {last_line(plan.log)} (see {plan.log})")
        time.sleep(0.05)


def _run(plan: Plan, answers: Callable[[str], bool]) -> Server:
    with plan.log.open("ab") as log:
        child = subprocess.Popen(
            plan.argv,
            cwd=plan.directory,
            env=clean_environment(),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,  # Ctrl-C in the terminal is for us, not for the server
            **as_user(plan.user),
        )
    server = Server(plan, child)
    try:
        wait_until_answers(plan, answers, lambda: child.poll() is None)
    except BaseException:
        server.stop()
        raise
    return server
