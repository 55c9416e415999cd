"""Waiting for something to become true, without a fixed sleep."""

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

POLL = 0.02


def wait_for(predicate: Callable[[], T], timeout: float = 10.0, message: str | Callable[[], str] = "") -> T:
    """Call `predicate` until its answer is true, and return that answer.

    `timeout` is in seconds. Raises AssertionError with `message` (a text, or a function that is called
    only then, to describe what was there instead) and the last answer when the time is over.
    """
    deadline = time.monotonic() + timeout
    while True:
        answer = predicate()
        if answer:
            return answer
        if time.monotonic() >= deadline:
            text = message() if callable(message) else message
            raise AssertionError(f"not true within {timeout:g} s: {text or predicate} (last answer: {answer!r})")
        time.sleep(POLL)


def never(predicate: Callable[[], object], during: float, message: str = "") -> None:
    """Assert that `predicate` stays false for `during` seconds; use it only where no event can be waited for."""
    deadline = time.monotonic() + during
    while time.monotonic() < deadline:
        answer = predicate()
        if answer:
            raise AssertionError(f"became true: {message or predicate} ({answer!r})")
        time.sleep(POLL)
