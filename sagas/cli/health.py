"""Whether the parts of a system answer."""

from __future__ import annotations

import time
import urllib.error
import urllib.request
from collections.abc import Callable
from typing import TYPE_CHECKING

from sagas.errors import ConfigurationError

if TYPE_CHECKING:
    from celery import Celery

# Seconds. A worker takes two to start on an idle machine; a busy one with two cores takes its time.
HEALTH_TIMEOUT = 120.0


def nodes_that_answer(app: Celery, timeout: float = 1.0, among: list[str] | None = None) -> set[str]:
    """The Celery nodes that answer a ping within `timeout` seconds (only those in `among`, if given)."""
    replies = app.control.ping(timeout=timeout, destination=among)
    return {name for reply in replies or () for name in reply}


def answers_http(url: str) -> bool:
    """Whether a server answers at all; that it asks for a password is an answer, too."""
    try:
        with urllib.request.urlopen(url, timeout=5):  # noqa: S310 (an address that we made)
            return True
    except urllib.error.HTTPError as error:
        return error.code < 500
    except OSError:
        return False


def wait_until_healthy(
    app: Celery,
    nodes: list[str],
    flower_url: str | None,
    states: Callable[[], dict[str, str]],
    check: Callable[[], None],
) -> None:
    """Wait until all nodes answer a ping, Flower answers and beat runs. `check` raises when it is in vain."""
    deadline = time.monotonic() + HEALTH_TIMEOUT
    missing = set(nodes)
    flower_missing = flower_url is not None
    while True:
        check()
        if missing:
            missing -= nodes_that_answer(app, among=sorted(missing))
        if flower_missing and flower_url is not None:
            flower_missing = not answers_http(flower_url)
        down = sorted(name for name, state in states().items() if state != "RUNNING")
        if not missing and not flower_missing and not down:
            return
        if time.monotonic() > deadline:
            late = sorted(missing) + ["flower"] * flower_missing + down
            raise ConfigurationError(f"not healthy after {HEALTH_TIMEOUT:.0f} s: {', '.join(dict.fromkeys(late))}")
        time.sleep(0.2)
