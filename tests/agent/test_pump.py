"""The log's pump: text out of bytes, in few records, and a command that writes too fast is held back."""

import os
import threading
from pathlib import Path
from typing import IO

import pytest

from agent import pump as pump_module
from agent.pump import LogPump, _Stream
from agent.spool import MAX_TEXT, LogSpool
from tests.harness.wait import never, wait_for


def pipe() -> tuple[IO[bytes], IO[bytes]]:
    reader, writer = os.pipe()
    return os.fdopen(reader, "rb", 0), os.fdopen(writer, "wb", 0)


class Pumping:
    """A pump between two pipes and a spool."""

    def __init__(self, spool: LogSpool) -> None:
        out, self.stdout = pipe()
        err, self.stderr = pipe()
        self.spool, self.pump = spool, LogPump(out, err, spool)
        self.pump.start()

    def end(self, timeout: float = 5) -> None:
        self.stdout.close()
        self.stderr.close()
        self.pump.finish(timeout)

    def text(self) -> str:
        records = []
        while batch := self.spool.peek():
            records += batch
            self.spool.drop(batch)
        return "".join(str(record[2]) for record in records)


def test_many_lines_make_few_records_that_end_with_lines() -> None:
    text = "".join(f"{i}\n" for i in range(10000))
    texts = _Stream("stdout").feed(text.encode())
    assert "".join(texts) == text
    assert all(piece.endswith("\n") and len(piece) <= MAX_TEXT for piece in texts)
    assert len(texts) <= len(text) // MAX_TEXT + 2


def test_a_character_split_over_two_reads_stays_whole() -> None:
    stream, data = _Stream("stdout"), "a😀b\n".encode()
    assert [*stream.feed(data[:3]), *stream.feed(data[3:], final=True)] == ["a😀b\n"]


def test_a_line_too_long_to_wait_for_is_cut_and_lossless() -> None:
    stream = _Stream("stdout")
    texts = [*stream.feed(b"x" * (2 * MAX_TEXT + 5)), *stream.feed(b"\n", final=True)]
    assert "".join(texts) == "x" * (2 * MAX_TEXT + 5) + "\n"
    assert max(map(len, texts)) == MAX_TEXT


def test_a_fast_command_is_held_back_and_nothing_is_lost(tmp_path: Path) -> None:
    spool = LogSpool(tmp_path, max_backlog=100_000)
    pumping = Pumping(spool)
    sent = b"y" * 63 + b"\n"
    writer = threading.Thread(target=lambda: [pumping.stdout.write(sent * 16) for _ in range(1000)])
    writer.start()
    wait_for(lambda: not spool.has_room())
    never(lambda: not writer.is_alive(), 0.2, "the writer is held back")
    text = ""

    def ended() -> bool:
        nonlocal text
        text += pumping.text()
        return not writer.is_alive()

    wait_for(ended)
    pumping.end()
    assert text + pumping.text() == sent.decode() * 16000


def test_without_a_broker_a_command_is_not_held_back_for_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pump_module, "PATIENCE", 0.2)
    spool = LogSpool(tmp_path, max_backlog=10_000)
    pumping = Pumping(spool)
    for _ in range(300):
        pumping.stdout.write(b"z" * 4096)
    pumping.end()
    spool.end()
    assert "characters of output dropped" in pumping.text()


def test_a_pipe_that_somebody_holds_open_does_not_keep_it(tmp_path: Path) -> None:
    pumping = Pumping(LogSpool(tmp_path))
    pumping.stdout.write(b"half a line")
    wait_for(lambda: pumping.spool.last_seq == 1)
    pumping.pump.finish(timeout=0.1)
    assert not pumping.pump.is_alive()
    assert pumping.text() == "half a line"
    pumping.stdout.close()
    pumping.stderr.close()
