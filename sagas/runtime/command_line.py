"""Errors while `celery -A app ...` imports an app: Celery would show a traceback, and exit with 2."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

import click

from sagas.errors import HodeiError


@contextmanager
def one_line_under_celery() -> Iterator[None]:
    """An error that a user can mend ends the `celery` command with one line and exit code 1; elsewhere it is raised."""
    try:
        yield
    except HodeiError as error:
        if not _celery_command():
            raise
        sys.stderr.write(f"hodei: {error}\n")
        sys.stderr.flush()
        raise SystemExit(1) from None


def _celery_command() -> bool:
    context = click.get_current_context(silent=True)
    celery = sys.modules.get("celery.bin.celery")
    return context is not None and celery is not None and context.find_root().command is celery.celery
