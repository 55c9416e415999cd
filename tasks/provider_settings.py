"""Which provider this host has, from the environment. The application's own: the library knows nothing of it."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass

from providers.process import ProcessProvider
from sagas.errors import ConfigurationError
from sagas.jobs.ports import WorkerProvider
from sagas.settings import Settings

KINDS = ("process", "docker")
IMAGE = "hodei-sagas:latest"


@dataclass(frozen=True)
class ProviderSettings:
    """`kind` is one of KINDS, `capacity` how many workers this host is given when it is first seen.

    `image` and `network` are the docker provider's: what a worker is made from whose specification names nothing, and
    what the engine calls the network in which a worker finds the broker (None: the engine's default).
    """

    kind: str
    capacity: int
    image: str
    network: str | None

    @classmethod
    def from_env(cls, env: Mapping[str, str]) -> ProviderSettings:
        """`HODEI_PROVIDER`, `HODEI_PROVIDER_CAPACITY`, `HODEI_WORKER_IMAGE`, `HODEI_DOCKER_NETWORK`.

        Raises ConfigurationError, in one line.
        """
        kind = env.get("HODEI_PROVIDER") or KINDS[0]
        if kind not in KINDS:
            raise ConfigurationError(f"HODEI_PROVIDER={kind!r}: known are {' and '.join(KINDS)}")
        return cls(
            kind=kind,
            capacity=_capacity(env.get("HODEI_PROVIDER_CAPACITY") or ""),
            image=env.get("HODEI_WORKER_IMAGE") or IMAGE,
            network=env.get("HODEI_DOCKER_NETWORK") or None,
        )


def _capacity(raw: str) -> int:
    """Two for each core and at least four, where nothing is said."""
    if not raw:
        return max(4, 2 * (os.cpu_count() or 1))
    if not (raw.isascii() and raw.isdigit()):
        raise ConfigurationError(f"HODEI_PROVIDER_CAPACITY={raw!r} is not a number of workers")
    return int(raw)


def make_provider(chosen: ProviderSettings, settings: Settings) -> WorkerProvider:
    """The provider of this host. ConfigurationError if what it needs is not installed."""
    if chosen.kind == "process":
        return ProcessProvider(settings.home, settings.require_broker(), beat=settings.worker_beat)
    try:
        from providers.docker import DockerProvider
    except ImportError as error:
        raise ConfigurationError(f"HODEI_PROVIDER=docker needs the extra 'docker': {error}") from None
    return DockerProvider(
        # The engine may serve several hosts, and several systems of one host.
        home=f"{socket.gethostname()}:{settings.home.resolve()}",
        broker_url=settings.require_broker(),
        image=chosen.image,
        network=chosen.network,
        beat=settings.worker_beat,
    )
