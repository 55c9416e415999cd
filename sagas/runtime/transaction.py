"""What the author's code writes and the record of it commit together, or neither does (P4)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import psycopg2
import sqlalchemy as sa
from sqlalchemy.exc import SQLAlchemyError

from sagas.errors import StorageUnavailable
from sagas.runtime.outcomes import Outcome
from sagas.store.wire import is_away


def together(
    engine: sa.Engine,
    limit: float,
    act: Callable[[Any], Outcome],
    record: Callable[[Any, Outcome], dict[str, Any]],
    refused: Callable[[Exception], Outcome],
) -> tuple[Outcome, dict[str, Any]]:
    """`act` and, if it is done, `record` in one transaction (an SQLAlchemy Session); `limit` is in seconds.

    It is committed if the record's verdict is committed or done. An empty answer: it is not known to be recorded, and
    the row, asked by the attempt's id, knows. A database that is away makes the outcome not_ready: no attempt is spent.
    What it refuses at the end (a deferred constraint, say) is what `refused` makes of it.
    """
    from sqlalchemy.orm import Session

    try:
        with Session(engine) as session:
            # A process that is stopped in here holds locks no longer than its lease (R21).
            idle = f"SET LOCAL idle_in_transaction_session_timeout = {int(limit * 1000)}"
            session.connection().exec_driver_sql(idle)
            outcome = act(session)
            if getattr(outcome.error, "connection_invalidated", False):
                # The author's code met it first.
                return Outcome("not_ready", error=outcome.error, retry_in=1.0), {}
            if outcome.kind != "done":
                return outcome, {}
            session.flush()
            answer = record(session, outcome)
            if answer["verdict"] in ("committed", "done"):
                session.commit()
            return outcome, answer
    except (SQLAlchemyError, psycopg2.Error, StorageUnavailable) as error:
        if is_away(error):
            return Outcome("not_ready", error=error, retry_in=1.0), {}
        return refused(error), {}
