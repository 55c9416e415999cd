"""The scenario with short time limits (an outage outlasts the steps' limits and leases), a step deaf to signals, and
one that writes together with its record.
"""

import signal
import time

from sqlalchemy import text

from sagas import RetryPolicy, Saga, SagaContext
from tests.harness.effects import record
from tests.harness.scenario import build, execute

LIMIT = 3.0
short_once = build("short_once", verified=True, two={"timeout": LIMIT, "idempotent": False}, three={"timeout": LIMIT})


def deaf(ctx: SagaContext) -> None:
    """Deaf to signals, as code in C can be."""
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGALRM})
    record("effect", saga_id=ctx.saga_id, step=ctx.step, attempt=ctx.attempt)
    time.sleep(0 if ctx.attempt > 1 else 600)


stubborn = Saga("stubborn")
stubborn.step(name="deaf", timeout=1.0, retry=RetryPolicy(backoff=0.1))(deaf)


def book(ctx: SagaContext) -> None:
    """A row of the application's own, in its own schema."""
    ctx.session.execute(text("INSERT INTO bookings (saga_id) VALUES (:saga_id)"), {"saga_id": str(ctx.saga_id)})
    execute(ctx)


booked = Saga("booked")
for name in ("one", "two", "three", "four"):
    transactional = name == "two"
    retry = RetryPolicy(max_attempts=3, backoff=0.1)
    booked.step(name=name, transactional=transactional, retry=retry)(book if transactional else execute)
