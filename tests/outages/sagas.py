"""The scenario with short time limits (an outage outlasts the steps' limits and leases), and a step deaf to signals."""

import signal
import time

from sagas import RetryPolicy, Saga, SagaContext
from tests.harness.effects import record
from tests.harness.scenario import build

LIMIT = 3.0
short_once = build("short_once", verified=True, two={"timeout": LIMIT, "idempotent": False}, three={"timeout": LIMIT})


def deaf(ctx: SagaContext) -> None:
    """Deaf to signals, as code in C can be."""
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGALRM})
    record("effect", saga_id=ctx.saga_id, step=ctx.step, attempt=ctx.attempt)
    time.sleep(0 if ctx.attempt > 1 else 600)


stubborn = Saga("stubborn")
stubborn.step(name="deaf", timeout=1.0, retry=RetryPolicy(backoff=0.1))(deaf)
