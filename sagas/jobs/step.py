"""What the platform's step classes have in common."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

from sagas import PermanentError, SagaContext

T = TypeVar("T")


class JobStep:
    """A step over ports. Each of them may run twice: it finds its work done and says so by doing nothing."""

    is_idempotent = True
    transactional = False

    @property
    def has_compensation(self) -> bool:
        """Whether the class says how to undo it."""
        return hasattr(self, "compensate")


def field(ctx: SagaContext, name: str, kind: type[T]) -> T:
    """One id of the payload, as its own type (L11). Raises PermanentError if it is not there, or is none."""
    payload: Mapping[str, Any] = ctx.payload
    try:
        return kind(payload[name])  # type: ignore[call-arg]
    except KeyError:
        raise PermanentError(f"payload of {ctx.saga_type}: {name!r} is missing") from None
    except (TypeError, ValueError) as error:
        raise PermanentError(f"payload of {ctx.saga_type}: {name!r}: {error}") from None
