"""Servers seen from outside, embedded or not: do they answer, and if not, why."""

from __future__ import annotations

import contextlib

from sagas.errors import BrokerUnavailable, StorageUnavailable

# The database (and its owner) of the embedded PostgreSQL.
DATABASE = "hodei"


def postgres_answers(url: str) -> bool:
    """Whether the PostgreSQL behind `url` accepts a connection."""
    return database_trouble(url) is None


def database_trouble(url: str) -> str | None:
    """Why no connection to the PostgreSQL behind `url` can be had, in one line; None if it can."""
    import psycopg2

    try:
        psycopg2.connect(_maintenance(url), connect_timeout=5).close()
    except psycopg2.Error as error:
        return (str(error).strip() or type(error).__name__).splitlines()[0]
    return None


def require_database(url: str) -> None:
    """Raises StorageUnavailable, with the reason in one line, if the database does not answer."""
    if (trouble := database_trouble(url)) is not None:
        raise StorageUnavailable(f"the database {without_password(url)} does not answer: {trouble}")


def valkey_answers(url: str) -> bool:
    """Whether the Redis-compatible server behind `url` answers a PING."""
    import redis

    with contextlib.closing(redis.Redis.from_url(url, socket_timeout=2, socket_connect_timeout=2)) as client:
        try:
            return bool(client.ping())
        except redis.RedisError:
            return False


def require_broker(url: str) -> None:
    """Raises BrokerUnavailable, with the reason in one line, if the broker (of any kind) does not answer."""
    from kombu import Connection

    connection = Connection(url, connect_timeout=5)
    options = {"socket_connect_timeout": 5, "socket_timeout": 5} if url.startswith("redis") else {}
    connection.transport_options = {**(connection.transport_options or {}), **options}
    try:
        connection.connect()
    # What a transport raises depends on its kind; the connection knows, but not for a URL that names no kind.
    except Exception as error:  # noqa: BLE001
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise BrokerUnavailable(f"the broker {without_password(url)} does not answer: {reason}") from None
    finally:
        connection.release()


def create_database(url: str) -> None:
    """Create the database of the embedded PostgreSQL unless it is there."""
    import psycopg2

    connection = psycopg2.connect(_maintenance(url))
    try:
        connection.autocommit = True  # CREATE DATABASE refuses a transaction
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1 FROM pg_database WHERE datname = %s", (DATABASE,))
            if cursor.fetchone() is None:
                cursor.execute(f'CREATE DATABASE "{DATABASE}"')
    finally:
        connection.close()


def libpq_url(url: str) -> str:
    """A URL of SQLAlchemy as libpq reads it."""
    return url.replace("postgresql+psycopg2://", "postgresql://", 1)


def without_password(url: str) -> str:
    """The URL as it may be shown."""
    scheme, separator, rest = url.partition("://")
    credentials, at, host = rest.rpartition("@")
    user, colon, _ = credentials.partition(":")
    return f"{scheme}{separator}{user}{':***' if colon else ''}{at}{host}"


def _maintenance(url: str) -> str:
    # The embedded server answers before our database is there.
    return libpq_url(url).replace(f"@/{DATABASE}?", "@/postgres?", 1)
