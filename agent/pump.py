"""From a command's two pipes into the spool, as text."""

from __future__ import annotations

import codecs
import os
import selectors
import threading
from dataclasses import dataclass, field
from typing import IO

from agent.spool import MAX_TEXT, LogSpool

FLUSH_EVERY = 0.1  # seconds that an unfinished line is held back


@dataclass
class _Stream:
    name: str
    pending: str = ""
    decoder: codecs.IncrementalDecoder = field(default_factory=lambda: codecs.getincrementaldecoder("utf-8")("replace"))

    def feed(self, data: bytes, *, final: bool = False) -> list[str]:
        """Whole lines, and what has become too long to wait for its end. NUL is replaced: no text column holds it."""
        self.pending += self.decoder.decode(data, final).replace("\0", "\ufffd")
        *lines, self.pending = self.pending.split("\n")
        texts = [piece for line in lines for piece in _cut(line + "\n")]
        if final or len(self.pending) > MAX_TEXT:
            texts += self.flush()
        return texts

    def flush(self) -> list[str]:
        text, self.pending = self.pending, ""
        return _cut(text)


def _cut(text: str) -> list[str]:
    return [text[i : i + MAX_TEXT] for i in range(0, len(text), MAX_TEXT)]


class LogPump(threading.Thread):
    """Reads until both pipes end, or until `finish`. The texts of one stream, joined, are what was written to it."""

    def __init__(self, stdout: IO[bytes], stderr: IO[bytes], spool: LogSpool) -> None:
        super().__init__(name="log pump", daemon=True)
        self._pipes = {stdout: _Stream("stdout"), stderr: _Stream("stderr")}
        self._spool = spool
        self._enough = threading.Event()

    def run(self) -> None:
        """Read and queue."""
        with selectors.DefaultSelector() as selector:
            for pipe, stream in self._pipes.items():
                selector.register(pipe, selectors.EVENT_READ, stream)
            while selector.get_map() and not self._enough.is_set():
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

    def _flush(self) -> None:
        for stream in self._pipes.values():
            if stream.pending:
                self._spool.append(stream.name, stream.flush())

    def finish(self, timeout: float) -> None:
        """Wait for the end of both pipes, at most `timeout` seconds (somebody else may hold them open)."""
        self.join(timeout)
        self._enough.set()
        self.join()
