"""Which way a saga's work takes: through the saga, or past it; and which sagas run in the shadow of the other way."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from sagas.types import SagaType

SHARES = 10_000
"""Keys fall into so many shares: a percentage counts to two places."""
WITH_SHADOW = frozenset({SagaType.PROVISIONING, SagaType.EXECUTION})
"""A recovery has no shadow: there is no other way beside it to compare it with."""


def share_of(saga: str, key: str) -> float:
    """Where in [0, 100) this key falls, the same in every process and every version of Python.

    Each saga cuts anew: the keys that go first differ between them.
    """
    digest = hashlib.sha256(f"{saga}\0{key}".encode()).digest()
    return int.from_bytes(digest[:8], "big") % SHARES * 100 / SHARES


@dataclass(frozen=True)
class SagaFeatureFlags:
    """The flags as they are at one moment. As they come, everything goes through its saga, and nothing has a shadow.

    A saga that is enabled takes `*_percent` of its keys, from 0 to 100, always the same ones: a higher percentage adds
    keys and takes none away. The others go past it, and past one that is not enabled all of them do. Those have a
    shadow if `shadow_mode` says so for every saga, or `shadow_sagas` for this one. Raises ValueError.
    """

    provisioning_saga_enabled: bool = True
    execution_saga_enabled: bool = True
    recovery_saga_enabled: bool = True
    shadow_mode: bool = False
    provisioning_percent: float = 100
    execution_percent: float = 100
    recovery_percent: float = 100
    shadow_sagas: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        for saga in SagaType:
            if not 0 <= self.percent(saga) <= 100:
                raise ValueError(f"{saga}_percent={self.percent(saga)}: from 0 to 100 is meant")

    def enabled(self, saga: str) -> bool:
        """Whether any key may go through this saga. Raises ValueError for a saga that has no flag."""
        return bool(getattr(self, f"{SagaType(saga)}_saga_enabled"))

    def percent(self, saga: str) -> float:
        """How many of its keys, of a hundred, go through this saga while it is enabled."""
        return float(getattr(self, f"{SagaType(saga)}_percent"))

    def uses_saga(self, saga: str, key: str) -> bool:
        """Whether the work with this key goes through the saga: for one key always the same answer."""
        return self.enabled(saga) and share_of(saga, key) < self.percent(saga)

    def shadows(self, saga: str, key: str) -> bool:
        """Whether the saga runs in the shadow of the work that goes past it."""
        wanted = self.shadow_mode or saga in self.shadow_sagas
        return wanted and saga in WITH_SHADOW and not self.uses_saga(saga, key)
