"""The log of one assignment on its way to the platform: records wait in a file while the broker is away."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Sequence
from pathlib import Path

Record = list[int | str]
"""`[seq, "stdout" | "stderr", text]`, numbered from 1 within an assignment."""

MAX_BATCH = 64 * 1024
MAX_BACKLOG = 16 * 1024 * 1024
MAX_TEXT = 8 * 1024  # characters: even with every one escaped, a record fits into a batch


class LogSpool:
    """A queue of records in a file. What exceeds `max_backlog` bytes is dropped, and a record says how much.

    After a restart the records that were not sent yet are there again, with their numbers.
    """

    def __init__(self, directory: Path, max_backlog: int = MAX_BACKLOG) -> None:
        self._max_backlog = max_backlog
        self._lock = threading.Lock()
        self._file = os.open(directory / "log.jsonl", os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
        self._mark = directory / "log.sent"
        self._sent = int(self._mark.read_text() or 0) if self._mark.exists() else 0
        self.last_seq = self._sent
        self._dropped = 0
        self._read_at = 0
        self._size = 0
        self._load()

    def _load(self) -> None:
        """Find the end of the last whole line, the last number, and the first record that was not sent."""
        data = os.pread(self._file, os.fstat(self._file).st_size, 0)
        self._size = data.rfind(b"\n") + 1
        os.ftruncate(self._file, self._size)
        for line in data[: self._size].splitlines(keepends=True):
            seq = int(json.loads(line)[0])
            self.last_seq = max(self.last_seq, seq)
            if seq <= self._sent:
                self._read_at += len(line)

    def append(self, stream: str, texts: Sequence[str]) -> None:
        """Queue records. Never blocks on the broker, never raises: what cannot be kept is counted as dropped."""
        with self._lock:
            if self._dropped and self.has_room():
                self._note_dropped()
            if self._dropped or not self.has_room() or not self._write(stream, texts):
                self._dropped += sum(len(text) for text in texts)

    def end(self) -> None:
        """Nothing more will come; say what is missing, if anything is."""
        with self._lock:
            if self._dropped:
                self._note_dropped()

    def _note_dropped(self) -> None:
        note = f"[{self._dropped} characters of output dropped: they could not be kept until sent]\n"
        if self._write("stderr", [note]):
            self._dropped = 0

    def has_room(self) -> bool:
        """False when more than the bound waits, so that what is appended now is dropped."""
        return self._size - self._read_at <= self._max_backlog

    def _write(self, stream: str, texts: Sequence[str]) -> bool:
        """Write all or nothing."""
        data = b"".join(_line([self.last_seq + 1 + i, stream, text]) for i, text in enumerate(texts))
        try:
            complete = os.write(self._file, data) == len(data)
        except OSError:
            complete = False
        if not complete:
            os.ftruncate(self._file, self._size)
            return False
        self._size += len(data)
        self.last_seq += len(texts)
        return True

    def peek(self) -> list[Record]:
        """The next batch of records, at most 64 KiB; they stay in the queue until `drop` is called."""
        with self._lock:
            data = os.pread(self._file, min(MAX_BATCH, self._size - self._read_at), self._read_at)
        return [json.loads(line) for line in data[: data.rfind(b"\n") + 1].splitlines()]

    def drop(self, batch: list[Record]) -> None:
        """Take a batch that `peek` gave, and that was sent, out of the queue."""
        with self._lock:
            self._sent = int(batch[-1][0])
            self._mark.write_text(str(self._sent))
            self._read_at += sum(len(_line(record)) for record in batch)
            if self._read_at >= self._size:
                os.ftruncate(self._file, 0)
                self._read_at = self._size = 0

    def backlog(self) -> int:
        """The bytes that wait."""
        with self._lock:
            return self._size - self._read_at

    def close(self) -> None:
        """Close the file; what was not sent stays in it."""
        os.close(self._file)


def _line(record: Record) -> bytes:
    return json.dumps(record, ensure_ascii=False).encode() + b"\n"
