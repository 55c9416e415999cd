"""From a command's two pipes into the spool, as text."""

from __future__ import annotations

import codecs
import os
import selectors
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import IO

from agent.spool import MAX_TEXT, LogSpool

FLUSH_EVERY = 0.1  # seconds that an unfinished line is held back
PATIENCE = 10.0  # seconds that a command is held back for a spool that does not shrink


@dataclass
class _Stream:
    name: str
    pending: str = ""
    decoder: codecs.IncrementalDecoder = field(default_factory=lambda: codecs.getincrementaldecoder("utf-8")("replace"))

    def feed(self, data: bytes, *, final: bool = False) -> list[str]:
        """Whole lines, and what has become too long to wait for its end. NUL is replaced: no text column holds it."""
        self.pending += self.decoder.decode(data, final).replace("\0", "\ufffd")
        end = self.pending.rfind("\n") + 1
        texts, self.pending = list(_cut(self.pending[:end])), self.pending[end:]
        if final or len(self.pending) > MAX_TEXT:
            texts += self.flush()
        return texts

    def flush(self) -> list[str]:
        text, self.pending = self.pending, ""
        return list(_cut(text))


def _cut(text: str) -> Iterator[str]:
    """As few pieces as may be, each ending with a line if it can."""
    while text:
        end = len(text) if len(text) <= MAX_TEXT else text.rfind("\n", 0, MAX_TEXT) + 1 or MAX_TEXT
        yield text[:end]
        text = text[end:]


class LogPump(threading.Thread):
    """Reads until both pipes end, or until `finish`. The texts of one stream, joined, are what was written to it."""

    def __init__(self, stdout: IO[bytes], stderr: IO[bytes], spool: LogSpool) -> None:
        super().__init__(name="log pump", daemon=True)
        self._pipes = {stdout: _Stream("stdout"), stderr: _Stream("stderr")}
        self._spool = spool
        self._hurry = threading.Event()
        self._enough = threading.Event()
        self._gave_up = False

    def run(self) -> None:
        """Read and queue."""
        with selectors.DefaultSelector() as selector:
            for pipe, stream in self._pipes.items():
                selector.register(pipe, selectors.EVENT_READ, stream)
            while selector.get_map() and not self._enough.is_set():
                self._wait_for_room()
                ready = selector.select(FLUSH_EVERY)
                for key, _ in ready:
                    data = os.read(key.fd, 65536)
                    self._spool.append(key.data.name, key.data.feed(data, final=not data))
                    if not data:
                        selector.unregister(key.fileobj)
                if not ready:
                    self._flush()
        self._flush()
        for pipe in self._pipes:
            pipe.close()

    def _wait_for_room(self) -> None:
        """Hold back a command that writes faster than its log is sent, but not for ever: the broker may be away."""
        deadline = time.monotonic() + PATIENCE
        while not (self._spool.has_room() or self._gave_up or self._hurry.wait(0.02)):
            self._gave_up = time.monotonic() > deadline
        self._gave_up = self._gave_up and not self._spool.has_room()

    def _flush(self) -> None:
        for stream in self._pipes.values():
            if stream.pending:
                self._spool.append(stream.name, stream.flush())

    def finish(self, timeout: float) -> None:
        """Wait for the end of both pipes, at most `timeout` seconds (somebody else may hold them open)."""
        self._hurry.set()
        self.join(timeout)
        self._enough.set()
        self.join()
