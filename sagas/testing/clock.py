"""The engine's clock is one SQL function; replacing it moves time for every process that uses the database."""

from __future__ import annotations

from typing import Any


def move_clock(connection: Any, seconds: float) -> None:
    """From now on `saga_now()` is `seconds` ahead of the real time, on a DBAPI connection that is then committed."""
    with connection.cursor() as cursor:
        cursor.execute(
            "CREATE OR REPLACE FUNCTION saga_now() RETURNS timestamptz LANGUAGE sql VOLATILE AS "
            f"$$ SELECT clock_timestamp() + interval '{float(seconds)} s' $$"
        )
    connection.commit()


def reset_clock(connection: Any) -> None:
    """Real time again."""
    move_clock(connection, 0)
