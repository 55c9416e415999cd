"""What can go wrong, by name. Each message is one line: what was wrong, where, what to do."""

from __future__ import annotations


class HodeiError(Exception):
    """Base of every error that a user of the library or of the command line is meant to read."""


class ConfigurationError(HodeiError):
    """The app, a setting or a module cannot carry sagas; nothing was started."""


class DefinitionError(HodeiError):
    """A saga's definition contradicts itself, or contradicts one that is stored."""


class UnknownSaga(HodeiError):
    """No definition of that name is known; nothing was written."""


class InvalidPayload(HodeiError):
    """The payload is not JSON, does not fit the declared schema or is too large; nothing of it was written."""


class IdempotencyKeyReused(HodeiError):
    """The key names a saga that was started with another payload; nothing was written."""


class SagaNotFound(HodeiError):
    """There is no saga with that id."""


class SagaTimeout(HodeiError, TimeoutError):
    """The saga (or the worker that was asked) did not answer in time; the saga goes on."""


class StorageUnavailable(HodeiError):
    """PostgreSQL does not answer: infrastructure trouble, never the outcome of a step."""


class BrokerUnavailable(HodeiError):
    """The message broker does not answer; what is durable in PostgreSQL goes on when it is back."""


class PermanentError(Exception):
    """Raised by a step that must not be tried again: the author's word that nothing happened."""


class NotReady(Exception):
    """Raised by a step that wants to be asked again in `retry_in` seconds, without spending an attempt."""

    def __init__(self, message: str = "", *, retry_in: float = 1.0) -> None:
        super().__init__(message or f"not ready, asked again in {retry_in} s")
        self.retry_in = retry_in


class CancelSaga(Exception):
    """Raised by a step that ends its saga as CANCELLED; what was done is undone."""

    def __init__(self, reason: str = "cancelled by a step") -> None:
        super().__init__(reason)
        self.reason = reason


class StepTimeLimit(BaseException):
    """The step's time limit struck inside its own code: the outcome is unknown.

    Not an `Exception`, so that `except Exception` in a step cannot swallow it.
    """
