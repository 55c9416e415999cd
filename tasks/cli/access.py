"""How commands reach the platform's rows, and how they say what they cannot do: in one line."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING, Any
from uuid import UUID

import click
from sqlalchemy.exc import OperationalError, ProgrammingError

from models import Records
from sagas import ConfigurationError, StorageUnavailable

if TYPE_CHECKING:
    from tasks.platform import Platform

UNDEFINED_TABLE = "42P01"


def platform() -> Platform:
    """The platform of HODEI_DATABASE_URL, or of the system that runs here. Raises ConfigurationError."""
    from tasks.celery import app
    from tasks.platform import platform_of

    found = platform_of(app)
    found.settings.require_database()
    return found


@contextmanager
def records(of: Platform | None = None) -> Iterator[Records]:
    """A transaction. What is wrong with the database is one line: StorageUnavailable or ConfigurationError."""
    try:
        with (of or platform()).records() as opened:
            yield opened
    except OperationalError as error:
        raise StorageUnavailable(f"PostgreSQL does not answer: {_first_line(error)}") from None
    except ProgrammingError as error:
        if getattr(error.orig, "pgcode", None) == UNDEFINED_TABLE:
            raise ConfigurationError("the database has no tables for jobs yet; run: hodei db upgrade") from None
        raise


def _first_line(error: OperationalError) -> str:
    return str(error.orig).strip().splitlines()[0]


def as_dict(row: Any, *names: str) -> dict[str, Any]:
    """These columns of a row, as JSON can hold them."""
    return {name: plain(getattr(row, name)) for name in names}


def plain(value: Any) -> Any:
    """Ids and times become strings, times in UTC."""
    if isinstance(value, UUID):
        return str(value)
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat(timespec="milliseconds")
    if isinstance(value, date | Mapping):
        return dict(value) if isinstance(value, Mapping) else str(value)
    return value


def show_json(value: Any) -> None:
    """Print it for programs."""
    click.echo(json.dumps(value, indent=2))


def short(moment: datetime | None) -> str:
    """A time for people: this machine's own, to the second."""
    return moment.astimezone().strftime("%Y-%m-%d %H:%M:%S") if moment else "-"
