"""How the engine reaches PostgreSQL: one lazy SQLAlchemy engine for each process."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from sagas.errors import ConfigurationError
from sagas.settings import normalise_database_url


def connect_engine(
    url: str, *, schema: str | None = None, pool_size: int = 5, poolclass: type[sa.Pool] | None = None
) -> sa.Engine:
    """A lazy engine: no connection is made before the first statement.

    The connection time-outs are seconds; a host that vanished is noticed by TCP keepalives after about 20 s (R21).
    """
    normal = normalise_database_url(url)
    assert normal is not None
    try:
        parsed = sa.make_url(normal)
    except sa.exc.ArgumentError:
        raise ConfigurationError(
            "the database URL cannot be read; use postgresql://user:password@host:port/name"
        ) from None
    arguments: dict[str, Any] = {
        "connect_timeout": 5,
        "keepalives": 1,
        "keepalives_idle": 10,
        "keepalives_interval": 5,
        "keepalives_count": 2,
        "application_name": "hodei",
    }
    for key in parsed.query:
        arguments.pop(key, None)
    pool: dict[str, Any] = {"pool_size": pool_size, "max_overflow": 5, "pool_timeout": 10}
    if poolclass is not None:
        pool = {"poolclass": poolclass}
    engine = sa.create_engine(parsed, connect_args=arguments, **pool)
    if schema:
        _search(engine, schema)
    return engine


def _search(engine: sa.Engine, schema: str) -> None:
    """Look in the engine's schema first, in the user's own after it."""

    @sa.event.listens_for(engine, "connect")
    def set_search_path(connection: Any, _record: Any) -> None:
        with connection.cursor() as cursor:
            cursor.execute("SELECT set_config('search_path', quote_ident(%s) || ', public', false)", (schema,))
        connection.commit()
