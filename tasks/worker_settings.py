"""When a worker is taken for idle or too old, from the environment. The application's own."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from sagas.errors import ConfigurationError


@dataclass(frozen=True)
class WorkerSettings:
    """Seconds: `idle` without a job, `max_age` since it was made; 0 is never."""

    idle: float = 0.0
    max_age: float = 0.0

    @classmethod
    def from_env(cls, env: Mapping[str, str]) -> WorkerSettings:
        """`HODEI_WORKER_IDLE`, `HODEI_WORKER_MAX_AGE`. Raises ConfigurationError, in one line."""
        return cls(_seconds(env, "HODEI_WORKER_IDLE"), _seconds(env, "HODEI_WORKER_MAX_AGE"))


def _seconds(env: Mapping[str, str], name: str) -> float:
    raw = env.get(name) or "0"
    try:
        seconds = float(raw)
    except ValueError:
        seconds = math.nan
    if not (math.isfinite(seconds) and seconds >= 0):
        raise ConfigurationError(f"{name}={raw!r} is not a number of seconds")
    return seconds
