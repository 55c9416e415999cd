"""The one thread that talks to the platform. It outlives the broker's absence; nobody else waits for the broker."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from celery import Celery

from agent.spool import MAX_BATCH, LogSpool

logger = logging.getLogger(__name__)

FIRST_DELAY, MAX_DELAY = 0.1, 1.0  # seconds between two tries while the broker is away
LOG_EVERY = 0.1  # seconds between two batches of one log that is not full


UNSHOWN = ("records", "token")  # what Flower need not show of a message


@dataclass(frozen=True)
class Message:
    """A Celery task of the platform's, by name."""

    name: str
    kwargs: dict[str, Any]
    queue: str = "control"


@dataclass
class _Log:
    """A spool, to whom it belongs, and whether nothing will be added to it any more."""

    names: dict[str, str]
    spool: LogSpool
    complete: bool = False


class Sender(threading.Thread):
    """Sends what is posted, in order, the beat's messages every `beat` seconds, and the spools' records."""

    def __init__(self, app: Celery, beat: float, beat_messages: Callable[[], Sequence[Message]]) -> None:
        super().__init__(name="sender", daemon=True)
        self._app = app
        self._beat = beat
        self._beat_messages = beat_messages
        self._next_beat = 0.0
        self._outbox: deque[Message] = deque()
        self._logs: list[_Log] = []
        self._lock = threading.Lock()
        self._news = threading.Event()
        self._stop_at: float | None = None

    def post(self, message: Message) -> None:
        """Send this as soon as possible."""
        self._outbox.append(message)
        self._news.set()

    def follow(self, spool: LogSpool, names: dict[str, str]) -> None:
        """Send this spool's records, as they come, until it is `complete`; `names` are its assignment and job."""
        with self._lock:
            self._logs.append(_Log(names, spool))

    def complete(self, spool: LogSpool) -> None:
        """Nothing will be added to this spool any more: close it once it is sent."""
        with self._lock:
            for log in self._logs:
                log.complete = log.complete or log.spool is spool
        self._news.set()

    def run(self) -> None:
        """Send until stopped; after an error try again, with growing delays."""
        delay = FIRST_DELAY
        while self._stop_at is None or (time.monotonic() < self._stop_at and not self._is_done()):
            try:
                self._send_due()
                delay = FIRST_DELAY
                if self._stop_at is None:
                    self._news.wait(self._pause())
                    self._news.clear()
            except Exception as error:  # noqa: BLE001 - whatever the broker's library raises must not end this thread
                logger.warning("cannot send (next try in %.1f s): %s: %s", delay, type(error).__name__, error)
                time.sleep(delay)
                delay = min(2 * delay, MAX_DELAY)

    def _send_due(self) -> None:
        """One round: the beat first, so that neither a long log nor a long outbox makes this worker look dead."""
        if time.monotonic() >= self._next_beat:
            for message in self._beat_messages():
                self._send(message)
            self._next_beat = time.monotonic() + self._beat
        if self._outbox:
            self._send(self._outbox[0])
            self._outbox.popleft()
        for log in self._snapshot():
            if batch := log.spool.peek():
                self._send(Message("jobs.log", {**log.names, "records": batch}, queue="logs"))
                log.spool.drop(batch)
            elif log.complete:
                with self._lock:
                    self._logs.remove(log)
                log.spool.close()

    def _send(self, message: Message) -> None:
        policy = {"max_retries": 1, "interval_start": 0, "interval_step": 0}  # renews a connection that broke
        shown = {name: value for name, value in message.kwargs.items() if name not in UNSHOWN}
        self._app.send_task(
            message.name,
            kwargs=message.kwargs,
            kwargsrepr=repr(shown),
            queue=message.queue,
            retry=True,
            retry_policy=policy,
            ignore_result=True,
        )

    def _snapshot(self) -> list[_Log]:
        with self._lock:
            return list(self._logs)

    def _pause(self) -> float:
        logs = self._snapshot()
        if self._outbox or any(log.spool.backlog() > MAX_BATCH // 2 for log in logs):
            return 0
        until_beat = max(0.0, self._next_beat - time.monotonic())
        return min(LOG_EVERY, until_beat) if logs else until_beat

    def _is_done(self) -> bool:
        return not self._outbox and not self._snapshot()

    def stop(self, timeout: float) -> None:
        """Send what is left, for at most `timeout` seconds, and end."""
        self._stop_at = time.monotonic() + timeout
        self._news.set()
        self.join(timeout)
