"""Threads that write beside the one that asks: `start_many`'s.

Not `concurrent.futures`' own: those take nothing any more once the main thread is at its end (CPython, `_python_exit`),
while other threads still start sagas, and what is in their hands would be left without messages.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from queue import Empty, SimpleQueue
from threading import Thread
from typing import Any, Self, TypeVar

T = TypeVar("T")


class Writers:
    """So many threads; where none is to be had (at the interpreter's end), the caller's own writes."""

    def __init__(self, count: int) -> None:
        self._due: SimpleQueue[tuple[Future[Any], Callable[[], Any]] | None] = SimpleQueue()
        self._threads: list[Thread] = []
        try:
            for number in range(count):
                # Nobody waits at the process's end for one whose caller was interrupted before he could let it go.
                thread = Thread(target=self._run, name=f"hodei-start-many-{number}", daemon=True)
                thread.start()
                self._threads.append(thread)
        except RuntimeError:
            pass  # with fewer, or none
        except BaseException:
            for _ in range(count):
                self._due.put(None)
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        """What has not begun is dropped; what has is waited for."""
        with suppress(Empty):
            while True:
                self._due.get_nowait()
        for _ in self._threads:
            self._due.put(None)
        for thread in self._threads:
            thread.join()

    def submit(self, work: Callable[[], T]) -> Future[T]:
        future: Future[T] = Future()
        if self._threads:
            self._due.put((future, work))
        else:
            _do(future, work)
        return future

    def _run(self) -> None:
        while (due := self._due.get()) is not None:
            _do(*due)


def _do(future: Future[T], work: Callable[[], T]) -> None:
    if not future.set_running_or_notify_cancel():
        return
    try:
        future.set_result(work())
    except BaseException as error:  # noqa: BLE001 - whoever asks for the result gets it
        future.set_exception(error)
