"""When a server was last seen to answer: the time of a file in HODEI_HOME, for `hodei status` while it does not.

Nothing is noted where there is no such directory: in an app of somebody's own, say.
"""

from __future__ import annotations

import time
from contextlib import suppress
from pathlib import Path


def note(home: Path, server: str) -> None:
    """`database` or `broker` has just answered."""
    if home.is_dir():
        # A full disk or another owner must not stop a heartbeat.
        with suppress(OSError):
            directory = home / "seen"
            directory.mkdir(mode=0o700, exist_ok=True)
            (directory / server).touch()


def silence(home: Path, server: str) -> float | None:
    """Seconds since that server answered; None if nobody has noted it."""
    try:
        return max(time.time() - (home / "seen" / server).stat().st_mtime, 0.0)
    except OSError:
        return None
