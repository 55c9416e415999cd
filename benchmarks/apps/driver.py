"""A process of another environment that does what the benchmark asks it, over a socket. The standard library alone."""

import time
from collections.abc import Callable
from multiprocessing.connection import Client, Connection, Listener
from typing import Any

KEY = b"hodei-bench"  # the socket lies in a directory of the run's own


def serve(path: str, functions: dict[str, Callable[..., Any]]) -> None:
    """Answer calls until the other side hangs up."""
    with Listener(path, authkey=KEY) as listener, listener.accept() as connection:
        while True:
            try:
                name, arguments = connection.recv()
            except EOFError:
                return
            try:
                answer = (True, functions[name](*arguments))
            except Exception as error:  # noqa: BLE001 - whatever it is, the benchmark must hear of it
                answer = (False, f"{type(error).__name__}: {error}")
            connection.send(answer)


class Driver:
    """The benchmark's end of it."""

    def __init__(self, path: str, running: Callable[[], bool], timeout: float = 60.0) -> None:
        """Connect, as soon as the process listens. Raises RuntimeError if it ends before."""
        self._connection = _connect(path, running, timeout)

    def call(self, name: str, *arguments: Any) -> Any:
        """The answer. Raises RuntimeError with what the function raised."""
        self.begin(name, *arguments)
        return self.end()

    def begin(self, name: str, *arguments: Any) -> None:
        """Ask without waiting; `end` waits."""
        self._connection.send((name, arguments))

    def end(self) -> Any:
        """The answer to `begin`."""
        fine, answer = self._connection.recv()
        if not fine:
            raise RuntimeError(answer)
        return answer

    def close(self) -> None:
        """Hang up; the process ends."""
        self._connection.close()


def _connect(path: str, running: Callable[[], bool], timeout: float) -> "Connection[Any, Any]":
    deadline = time.monotonic() + timeout
    while True:
        try:
            return Client(path, authkey=KEY)
        except (FileNotFoundError, ConnectionRefusedError):
            if not running() or time.monotonic() > deadline:
                raise RuntimeError(f"nothing listens on {path}") from None
            time.sleep(0.05)
