"""The agent's settings, from its environment."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from sagas.jobs.types import WorkerId

SECRETS = ("HODEI_BROKER_URL", "HODEI_WORKER_TOKEN")
"""What a job's environment must not show."""


@dataclass(frozen=True)
class AgentSettings:
    """Who this agent is; `home` is its directory, `beat` the seconds between two heartbeats."""

    broker_url: str
    worker_id: WorkerId
    token: str
    home: Path
    beat: float

    @classmethod
    def from_env(cls, env: Mapping[str, str]) -> AgentSettings:
        """Raises ValueError, in one line that names the variable, if one is missing or wrong."""
        try:
            beat = float(env.get("HODEI_WORKER_BEAT", "5"))
        except ValueError:
            beat = math.nan
        if not (math.isfinite(beat) and beat > 0):
            raise ValueError("HODEI_WORKER_BEAT must be a positive number of seconds")
        names = ("HODEI_BROKER_URL", "HODEI_WORKER_ID", "HODEI_WORKER_TOKEN", "HODEI_AGENT_HOME")
        missing = [name for name in names if not env.get(name)]
        if missing:
            raise ValueError(f"set {', '.join(missing)} (a provider does it when it starts an agent)")
        broker_url, worker_id, token, home = (env[name] for name in names)
        try:
            return cls(broker_url, WorkerId(worker_id), token, Path(home).resolve(), beat)
        except ValueError as error:
            raise ValueError(f"HODEI_WORKER_ID: {error}") from None
