"""When a failed attempt is tried again."""

from __future__ import annotations

import random
from dataclasses import dataclass

from sagas.errors import DefinitionError, PermanentError


@dataclass(frozen=True)
class RetryPolicy:
    """Attempts in all, and the pause between them in seconds.

    Every exception is retried unless it is a `PermanentError` or in `give_up_on`. With `retry_on` only those
    are; for a step with `idempotent=False` it is the author's word that nothing happened when they are raised.
    """

    max_attempts: int = 3
    backoff: float = 1.0
    factor: float = 2.0
    max_backoff: float = 60.0
    jitter: float = 0.1
    retry_on: tuple[type[BaseException], ...] = ()
    give_up_on: tuple[type[BaseException], ...] = ()

    def __post_init__(self) -> None:
        if self.max_attempts < 1:
            raise DefinitionError(f"max_attempts={self.max_attempts}: at least 1 attempt is needed")
        if min(self.backoff, self.factor, self.max_backoff, self.jitter) < 0:
            raise DefinitionError("RetryPolicy takes no negative numbers")

    def delay(self, attempt: int) -> float:
        """Seconds to wait after attempt number `attempt` (1, 2, ...) has failed."""
        # The exponent is capped: a float overflows long before anybody waits that long.
        pause = min(self.max_backoff, self.backoff * self.factor ** min(attempt - 1, 64))
        return pause * (1 + random.uniform(-self.jitter, self.jitter))  # noqa: S311 - spreads load, guards nothing

    def gives_up_on(self, error: BaseException) -> bool:
        """Whether this exception ends the attempts at once."""
        if isinstance(error, (PermanentError, *self.give_up_on)):
            return True
        return bool(self.retry_on) and not isinstance(error, self.retry_on)


DEFAULT_RETRY = RetryPolicy()
# A rollback is worth more patience than a step: ten attempts, at most 300 s apart.
DEFAULT_COMPENSATION_RETRY = RetryPolicy(max_attempts=10, max_backoff=300.0)
