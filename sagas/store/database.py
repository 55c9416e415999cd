"""How the engine reaches PostgreSQL: one lazy SQLAlchemy engine for each process."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from psycopg2 import extensions, sql

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
    if schema:
        arguments["cursor_factory"] = _cursor_in(schema)
    return sa.create_engine(parsed, connect_args=arguments, **pool)


def _cursor_in(schema: str) -> type[extensions.cursor]:
    """Cursors that look in the engine's schema first, in the user's own after it, in each transaction anew.

    A SET for the whole session would be lost, or be somebody else's, behind a pooler in transaction mode. It rides with
    the first statement of a transaction: no round trip is added.
    """
    name = schema.replace('"', '""').replace("%", "%%")
    prefix = f'SET LOCAL search_path = "{name}", public; '

    class Cursor(extensions.cursor):
        def execute(self, query: Any, vars: Any = None) -> None:
            if self.name is None and self._first():
                # With parameters, be there none in them, psycopg2 reads %% as %; without it reads nothing.
                lead = prefix if vars is not None else prefix.replace("%%", "%")
                query = sql.SQL(lead) + query if isinstance(query, sql.Composable) else lead + _text(query)
            super().execute(query, vars)

        def executemany(self, query: Any, vars_list: Any) -> None:
            if self._first() and not self.connection.autocommit:
                super().execute(prefix.replace("%%", "%"))
            super().executemany(query, vars_list)

        def _first(self) -> bool:
            return self.connection.info.transaction_status == extensions.TRANSACTION_STATUS_IDLE

    return Cursor


def _text(query: str | bytes) -> str:
    return query.decode() if isinstance(query, bytes) else query
