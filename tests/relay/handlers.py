"""Subscribers of the tests: they write what they are given to the effects log, as the event's payload says.

`{"do": "ok"}` handles it; `fail` raises in every attempt; `flaky:n` in the first n; `die:n` kills its process in the
first n; `lock:name` blocks on a lock of the test first; `gate:name` has its effect first and blocks then.
"""

import os
import signal
from typing import Any

import sqlalchemy as sa

from sagas import DomainEvent, RetryPolicy, on_event
from tests.harness.effects import URL_VARIABLE, Effects, record, wait_for_lock

PATIENCE = RetryPolicy(max_attempts=3, backoff=0.1, factor=1, jitter=0)


def play(event: DomainEvent, subscriber: str) -> None:
    """One attempt."""
    log = Effects(os.environ[URL_VARIABLE])
    key = str(event.event_id)
    tries = 1 + log.count("begin", key=key, step=subscriber)
    record("begin", key=key, step=subscriber, stream=event.stream)
    word, _, argument = str(event.payload.get("do", "ok")).partition(":")
    early = tries <= int(argument or 1) if word in ("flaky", "die") else False
    if word == "lock":
        wait_for_lock(argument)
    if word == "fail" or (word == "flaky" and early):
        raise RuntimeError(f"planned, try {tries}")
    if word == "die" and early:
        os.kill(os.getpid(), signal.SIGKILL)
    record("effect", key=key, step=subscriber, stream=event.stream)
    if word == "gate":
        wait_for_lock(argument)


@on_event("Happened", retry=PATIENCE, timeout=20)
def plain(event: DomainEvent) -> None:
    """The usual one."""
    play(event, "plain")


@on_event(("Counted", "CountedToo"), transactional=True, retry=PATIENCE, timeout=20)
def counting(event: DomainEvent, session: Any) -> None:
    """Its row commits with its record."""
    session.execute(sa.text("INSERT INTO counted (event_id) VALUES (:id)"), {"id": event.event_id})
    play(event, "counting")


@on_event("Elsewhere", queue="mail", retry=PATIENCE)
def elsewhere(event: DomainEvent) -> None:
    """On a queue of its own."""
    play(event, "elsewhere")


@on_event(("SagaStarted", "SagaCompleted"), retry=PATIENCE)
def of_sagas(event: DomainEvent) -> None:
    """Events that the engine writes."""
    record("told", saga_id=event.saga_id, step=event.event_type)
