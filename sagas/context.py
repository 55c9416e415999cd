"""What a step is given: the saga's identity, its payload, the outputs so far, and a few verbs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, TypeVar, cast

from sagas.errors import ConfigurationError
from sagas.types import SagaId

if TYPE_CHECKING:
    from uuid import UUID

P = TypeVar("P")


class Outputs(Mapping[str, Any]):
    """Outputs of the completed steps by name; what did not ride with the claim is fetched when first asked for."""

    def __init__(self, known: Mapping[str, Any] | None, load: Callable[[], Mapping[str, Any]] | None = None) -> None:
        self._known = known
        self._load = load

    def _all(self) -> Mapping[str, Any]:
        if self._known is None:
            self._known = self._load() if self._load else {}
        return self._known

    def __getitem__(self, step: str) -> Any:
        return self._all()[step]

    def __iter__(self) -> Iterator[str]:
        return iter(self._all())

    def __len__(self) -> int:
        return len(self._all())

    def __repr__(self) -> str:
        return f"Outputs({dict(self._all())!r})"


@dataclass
class SagaContext:
    """One attempt's view of its saga. A unit test makes one with the first two arguments and what its step reads."""

    saga_id: SagaId
    saga_type: str
    correlation_id: str | None = None
    actor: str | None = None
    started_at: datetime = field(default_factory=lambda: datetime.now(UTC))
    metadata: Mapping[str, Any] = field(default_factory=dict)
    payload: Any = field(default_factory=dict)
    outputs: Mapping[str, Any] = field(default_factory=lambda: Outputs({}))
    output: Any = None
    """This step's own output; None where it was never seen (a compensation after an unknown outcome)."""
    step: str = ""
    attempt: int = 1
    attempt_id: UUID | None = None
    compensation_data: Any = None
    """What `prepare_undo` stored before the effect."""
    ports: Mapping[type, Any] = field(default_factory=dict)
    events: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    """Buffered by `emit`, written by the statement that commits the step (PROTOCOL R7)."""
    _session: Any = None
    _store_undo: Callable[[Any], None] | None = None

    @property
    def idempotency_key(self) -> str:
        """One for every attempt of this step of this saga, and for its compensation."""
        return f"{self.saga_id}:{self.step}"

    @property
    def session(self) -> Any:
        """The database session of a transactional step: what it writes commits together with the step's record."""
        if self._session is None:
            raise ConfigurationError(f"step {self.step!r} has no session; declare it with transactional=True")
        return self._session

    def port(self, protocol: type[P]) -> P:
        """The adapter bound for this Protocol by `sagas.install(app, ports={...})`."""
        try:
            return cast("P", self.ports[protocol])
        except KeyError:
            raise ConfigurationError(
                f"step {self.step!r} asks for the port {protocol.__name__}, which is not bound; "
                "pass ports={...} to sagas.install"
            ) from None

    def prepare_undo(self, data: Any) -> None:
        """Store, before the effect, what undoing it needs; committed at once, read back as `compensation_data`."""
        self.compensation_data = data
        if self._store_undo:
            self._store_undo(data)

    def emit(self, event_type: str, payload: Mapping[str, Any] | None = None) -> None:
        """Append an event of one's own; it is written if and only if this step commits."""
        self.events.append((event_type, dict(payload or {})))
