"""A saga for counting: two steps, each writes one effect over a connection that its process keeps."""

import os

import psycopg2

from sagas import RetryPolicy, Saga, SagaContext
from tests.harness.effects import INSERT, URL_VARIABLE
from tests.harness.servers import libpq_url

bulk = Saga("bulk")
PATIENCE = RetryPolicy(max_attempts=3, backoff=0.1)
_kept: dict[int, psycopg2.extensions.connection] = {}


def note(kind: str, ctx: SagaContext) -> None:
    """One row of the effects log: what `tests.harness.effects.record` does, without a connection for each call."""
    pid = os.getpid()  # a forked child has none yet
    if pid not in _kept:
        _kept.clear()
        _kept[pid] = psycopg2.connect(libpq_url(os.environ[URL_VARIABLE]))
        _kept[pid].autocommit = True
    with _kept[pid].cursor() as cursor:
        cursor.execute(INSERT, (kind, ctx.idempotency_key, str(ctx.saga_id), ctx.step, ctx.attempt, pid, None))


@bulk.step(retry=PATIENCE)
def one(ctx: SagaContext) -> None:
    note("effect", ctx)


@one.compensation(retry=PATIENCE)
def undo_one(ctx: SagaContext) -> None:
    note("undo", ctx)


@bulk.step(retry=PATIENCE)
def two(ctx: SagaContext) -> None:
    note("effect", ctx)


@two.compensation(retry=PATIENCE)
def undo_two(ctx: SagaContext) -> None:
    note("undo", ctx)
