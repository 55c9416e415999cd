"""Values and errors on their way to PostgreSQL and back."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any, cast

import psycopg2
import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError

from sagas.errors import (
    ConfigurationError,
    HodeiError,
    IdempotencyKeyReused,
    InvalidPayload,
    StorageUnavailable,
    UnknownSaga,
)


class OtherRoute(HodeiError):
    """The saga would have another route than the message that is published for it (`StartRequest.route`)."""


REFUSALS: Mapping[str, type[Exception]] = {
    "SG001": UnknownSaga,
    "SG002": InvalidPayload,
    "SG003": IdempotencyKeyReused,
    "SG004": OtherRoute,
}


def is_trouble(connection: Any, error: psycopg2.Error) -> bool:
    """Whether the error is the connection's."""
    return error.pgcode not in REFUSALS and (bool(connection.closed) or _operational(error))


def is_away(error: BaseException) -> bool:
    """Whether it says that the database could not, not that it would not: away, out of resources, or it rolled back
    for reasons of its own (a deadlock). https://www.postgresql.org/docs/current/errcodes-appendix.html
    """
    if isinstance(error, StorageUnavailable):
        return True
    cause = error.orig if isinstance(error, DBAPIError) else error
    if not isinstance(cause, psycopg2.Error) or not _operational(cause):
        return False
    return cause.pgcode is None or cause.pgcode.startswith(("08", "40", "53", "57P"))


def is_held_up(error: BaseException) -> bool:
    """Whether PostgreSQL is there, and waited for a lock in vain or undid a deadlock (class 40)."""
    return waited_in_vain(error) or _code(error).startswith("40")


def waited_in_vain(error: BaseException) -> bool:
    """For a lock (class 55), as long as a statement may (`lock_timeout`)."""
    return _code(error).startswith("55")


def _code(error: BaseException) -> str:
    cause = error.__cause__ if isinstance(error, StorageUnavailable) else error
    return str(getattr(cause, "pgcode", None) or "")


def _operational(error: psycopg2.Error) -> bool:
    """An error of operation. After a crash of PostgreSQL libpq's word that the server is gone comes as a plain
    DatabaseError without a code, and psycopg2 does not call the connection closed yet.
    """
    away = psycopg2.OperationalError | psycopg2.InterfaceError
    return isinstance(error, away) or (type(error) is psycopg2.DatabaseError and error.pgcode is None)


def execute_on(session: Any, sql: str, parameters: tuple[Any, ...]) -> Any:
    """Run one statement in the caller's transaction: an SQLAlchemy Session or Connection, or a DBAPI connection."""
    try:
        if hasattr(session, "cursor"):
            cursor = session.cursor()
            try:
                cursor.execute(sql, parameters)
                value = cursor.fetchone()[0]
            finally:
                cursor.close()
        else:
            value = _connection_of(session).exec_driver_sql(sql, parameters).scalar_one()
    except DBAPIError as error:
        if isinstance(error.orig, psycopg2.Error):
            raise translate(error.orig) from error
        raise
    except psycopg2.Error as error:
        raise translate(error) from error
    # psycopg 3 and psycopg2 decode jsonb; a driver that does not gives text.
    return json.loads(value) if isinstance(value, str) and value[:1] in "{[" else value


def array(values: Iterable[Any]) -> str:
    """One-dimensional, as PostgreSQL reads it: one text, where `ARRAY[...]` is a term for each value.

    https://www.postgresql.org/docs/current/arrays.html#ARRAYS-IO
    """
    return "{" + ",".join("NULL" if one is None else _quoted(str(one)) for one in values) + "}"


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def translate(error: psycopg2.Error) -> Exception:
    """The library's error for one of PostgreSQL's; what is neither refusal nor trouble stays as it is."""
    refusal = REFUSALS.get(error.pgcode or "")
    if refusal:
        hint = getattr(error.diag, "message_hint", None)
        return refusal(first_line(error) + (f"; {hint}" if hint else ""))
    if error.pgcode == "42883" and "saga_" in str(error):
        return StorageUnavailable("the database has no engine tables yet; run: hodei db upgrade")
    if _operational(error):
        return StorageUnavailable(f"PostgreSQL does not answer: {first_line(error)}")
    return error


def first_line(error: Any) -> str:
    message = str(error).strip().splitlines()
    return message[0].removeprefix("ERROR:").strip() if message else type(error).__name__


def _connection_of(session: Any) -> sa.Connection:
    if hasattr(session, "exec_driver_sql"):
        return cast("sa.Connection", session)
    if callable(getattr(session, "connection", None)):
        return cast("sa.Connection", session.connection())
    raise ConfigurationError(
        f"session={session!r}: an SQLAlchemy Session or Connection, or a DBAPI connection, is meant"
    )
