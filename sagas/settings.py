"""Settings from the environment (design, section 11). Seconds unless said."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from sagas.errors import ConfigurationError

# How long a claim outlives its step's hard limit: Celery's own kill comes one second after ours, and the
# commit that follows may wait for PostgreSQL (lock time-out 5 s).
LEASE_MARGIN = 10.0


@dataclass(frozen=True)
class Settings:
    database_url: str | None = None
    broker_url: str | None = None
    saga_modules: tuple[str, ...] = ()
    home: Path = Path(".hodei")
    db_schema: str | None = None
    step_timeout: float = 300.0
    reconcile_every: float = 1.0
    node_beat: float = 2.0
    node_dead: float = 6.0
    worker_beat: float = 5.0
    worker_dead: float = 20.0
    visibility_timeout: float = 3600.0
    max_payload: int = 262_144
    continuation_ms: int = 200
    """For so many milliseconds a message may go on to further steps of its saga; 0: each step is a message's."""
    event_exchange: str | None = None
    """A topic exchange that the relay publishes events to; None: none."""
    event_exchange_types: tuple[str, ...] = ()
    """The event types that go there; none named: every one."""

    def require_database(self) -> str:
        if not self.database_url:
            raise ConfigurationError(
                f"no database: set HODEI_DATABASE_URL, or run `hodei up` here (looked in {self.home / 'system.json'})"
            )
        return self.database_url

    def require_broker(self) -> str:
        if not self.broker_url:
            raise ConfigurationError(
                f"no broker: set HODEI_BROKER_URL, or run `hodei up` here (looked in {self.home / 'system.json'})"
            )
        return self.broker_url


def load(environ: Mapping[str, str] | None = None, **overrides: Any) -> Settings:
    """Read `HODEI_*`; what is missing comes from the file of a running `hodei up`; keywords that are not None win."""
    env = os.environ if environ is None else environ
    values: dict[str, Any] = {}
    for item in fields(Settings):
        raw = env.get(f"HODEI_{item.name.upper()}")
        if raw not in (None, ""):
            values[item.name] = _parse(item.name, str(item.type), str(raw))
    settings = replace(Settings(), **values)
    running = _running_system(settings.home)
    settings = replace(
        settings,
        database_url=settings.database_url or running.get("database_url"),
        broker_url=settings.broker_url or running.get("broker_url"),
    )
    settings = replace(settings, **{name: value for name, value in overrides.items() if value is not None})
    return replace(settings, database_url=normalise_database_url(settings.database_url))


def normalise_database_url(url: str | None) -> str | None:
    """Both spellings from users: SQLAlchemy 2.1 reads a bare `postgresql://` as psycopg 3, ours is psycopg2."""
    if not url:
        return None
    for prefix in ("postgresql://", "postgres://"):
        if url.startswith(prefix):
            return "postgresql+psycopg2://" + url.removeprefix(prefix)
    if not url.startswith("postgresql+psycopg2://"):
        scheme = url.split(":", 1)[0]
        raise ConfigurationError(
            f"database URL begins with {scheme!r}: use postgresql://... or postgresql+psycopg2://..."
        )
    return url


def _parse(name: str, kind: str, raw: str) -> Any:
    try:
        if kind == "float":
            return float(raw)
        if kind == "int":
            return int(raw)
    except ValueError:
        raise ConfigurationError(f"HODEI_{name.upper()}={raw!r} is not a number") from None
    if kind.startswith("tuple"):
        return tuple(part.strip() for part in raw.split(",") if part.strip())
    return Path(raw) if kind == "Path" else raw


def _running_system(home: Path) -> dict[str, Any]:
    file = home / "system.json"
    try:
        content = json.loads(file.read_text())
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise ConfigurationError(f"{file} cannot be read ({error}); stop the system with `hodei down`") from None
    return content if isinstance(content, dict) else {}
