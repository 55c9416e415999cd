"""Starting and watching sagas from any Python app: through the broker alone, or through the database.

With a database the client calls the engine's SQL functions; without one it sends `sagas.start`, `sagas.status` and
`sagas.cancel` and is answered over Celery's own reply queue. This is the one module at the top of `sagas` that uses
Celery, and only when a client is made.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Mapping
from importlib import import_module
from typing import TYPE_CHECKING, Any, Protocol

from sagas.errors import ConfigurationError, InvalidPayload, SagaTimeout
from sagas.jsontext import Unstorable, to_json
from sagas.results import SagaResult, SagaStatus
from sagas.settings import load
from sagas.types import SagaId

if TYPE_CHECKING:
    from celery import Celery


class Line(Protocol):
    """How a client reaches the engine: `sagas.runtime.direct` over SQL, `sagas.runtime.indirect` over the broker."""

    def start(self, fields: dict[str, Any], session: Any, timeout: float, confirm: bool) -> str: ...

    def start_many(self, fields: list[dict[str, Any]], session: Any) -> Iterable[str]: ...

    def look(self, saga_id: SagaId, timeout: float) -> tuple[SagaStatus, SagaResult | None]: ...

    def cancel(self, saga_id: SagaId, reason: str, actor: str | None, timeout: float) -> str: ...


class SagaClient:
    """Starts sagas and finds them again.

    Give `broker_url`, or the `app` that sends your tasks; `database_url` to read and write directly. `timeout` is how
    long (seconds) a worker may take to answer, and `max_payload` (bytes) what is refused before it is sent.
    """

    def __init__(
        self,
        broker_url: str | None = None,
        *,
        app: Celery | None = None,
        database_url: str | None = None,
        timeout: float = 10.0,
        max_payload: int | None = None,
    ) -> None:
        settings = load(max_payload=max_payload)
        if broker_url is None and app is None:
            broker_url = settings.require_broker()
        if app is None:
            from celery import Celery

            app = Celery("hodei-client", broker=broker_url, set_as_current=False)
            app.conf.update(accept_content=["json"], broker_connection_timeout=5, broker_connection_max_retries=0)
        self.app = app
        self.timeout = timeout
        self._max_payload = settings.max_payload
        self._line = _line(app, database_url)

    def start(
        self,
        saga_type: str,
        payload: Mapping[str, Any] | None = None,
        *,
        idempotency_key: str | None = None,
        correlation_id: str | None = None,
        actor: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        session: Any = None,
        confirm: bool = True,
    ) -> SagaHandle:
        """Start a saga, or get the handle of the one that has this key.

        Returns when the saga's row exists: from then on it reaches an end, whatever dies. With `session` (an SQLAlchemy
        Session or Connection, or a DBAPI connection) it exists when the caller's transaction commits. `confirm=False`
        does not wait for a worker's answer: the saga is lost if the message is. Raises InvalidPayload, UnknownSaga,
        IdempotencyKeyReused before anything durable is written; SagaTimeout, BrokerUnavailable, StorageUnavailable.
        """
        fields = {
            **self._own(payload, idempotency_key),
            **_shared(saga_type, correlation_id, actor, metadata),
            "saga_id": str(SagaId.new()),
        }
        return SagaHandle(self, SagaId(self._line.start(fields, session, self.timeout, confirm)))

    def start_many(
        self,
        saga_type: str,
        payloads: Iterable[Mapping[str, Any]],
        *,
        idempotency_keys: Iterable[str] | None = None,
        correlation_id: str | None = None,
        actor: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        session: Any = None,
    ) -> list[SagaHandle]:
        """Start a saga for each payload, in their order: what `start` does, in fewer round trips.

        Needs `database_url`. All are checked before any is written; they are written in transactions of 100, or in that
        of `session`, two of them at once otherwise. Where PostgreSQL refuses one (IdempotencyKeyReused; InvalidPayload
        where the workers allow less, or a queue's name wants a field that is not there) or goes away, the hundreds
        before it are started, and may be the next two: give `idempotency_keys`, one for each, and do it again. Raises
        what `start` raises.
        """
        bodies = list(payloads)
        keys = [None] * len(bodies) if idempotency_keys is None else list(idempotency_keys)
        if len(keys) != len(bodies):
            raise InvalidPayload(f"there are {len(keys)} idempotency_keys for {len(bodies)} payloads")
        shared = _shared(saga_type, correlation_id, actor, metadata)
        fields = [{**self._own(body, key), **shared} for body, key in zip(bodies, keys, strict=True)]
        return [SagaHandle(self, SagaId(one)) for one in self._line.start_many(fields, session)]

    def _own(self, payload: Mapping[str, Any] | None, key: str | None) -> dict[str, Any]:
        """The fields of a start that sagas started together do not share."""
        return {
            "payload": check_json(payload if payload is not None else {}, self._max_payload),
            "idempotency_key": _text("idempotency_key", key),
        }

    def handle(self, saga_id: SagaId | str) -> SagaHandle:
        """The handle of a saga that was started elsewhere; nothing is asked yet."""
        try:
            return SagaHandle(self, SagaId(saga_id))
        except ValueError:
            raise InvalidPayload(f"{str(saga_id)!r} is no saga id (a UUID is meant)") from None


class SagaHandle:
    """One saga as its starter sees it."""

    def __init__(self, client: SagaClient, saga_id: SagaId) -> None:
        self._client = client
        self.saga_id = saga_id

    def status(self) -> SagaStatus:
        """Where the saga stands now. Raises SagaNotFound."""
        return self._client._line.look(self.saga_id, self._client.timeout)[0]

    def result(self, timeout: float | None = None) -> SagaResult:
        """Wait for the end, whichever of the four it is; `timeout` in seconds. Raises SagaTimeout, SagaNotFound."""
        until = None if timeout is None else time.monotonic() + timeout
        pause = 0.02
        while True:
            status, result = self._client._line.look(self.saga_id, self._client.timeout)
            if result is not None:
                return result
            if until is not None and time.monotonic() + pause > until:
                raise SagaTimeout(f"saga {self.saga_id} is {status.state} after {timeout} s, at {status.current_step}")
            time.sleep(pause)
            pause = min(pause * 1.5, 1.0)

    def cancel(self, reason: str = "cancelled", actor: str | None = None) -> str:
        """Ask the saga to go back. One word: cancelled, compensating, noted, past_pivot or terminal."""
        return self._client._line.cancel(self.saga_id, reason, actor, self._client.timeout)

    def __repr__(self) -> str:
        return f"SagaHandle({str(self.saga_id)!r})"


def check_json(payload: Any, limit: int) -> dict[str, Any]:
    """The payload as it will be read back. Raises InvalidPayload for what is not a JSON object, or is too large."""
    if not isinstance(payload, Mapping):
        raise InvalidPayload(f"the payload is a {type(payload).__name__}; a JSON object (a dict) is meant")
    text = _json_text("payload", payload)
    read: dict[str, Any] = json.loads(text)
    # PostgreSQL's measure, where it can matter: jsonb has a blank after each comma and colon, and no escapes
    # (nor exponents: 1e300 has 301 digits there, and is found when it is written).
    size = len(text) if 2 * len(text) <= limit else len(json.dumps(read, ensure_ascii=False).encode())
    if size > limit:
        raise InvalidPayload(f"the payload has {size} bytes, more than {limit}; store it and pass its address")
    if read.keys() != payload.keys():
        raise InvalidPayload("the payload has keys that are not strings")
    return read


def _json_text(name: str, value: Mapping[str, Any]) -> str:
    try:
        return to_json(dict(value))
    except (TypeError, ValueError, RecursionError) as error:
        problem = f"has {error}" if isinstance(error, Unstorable) else f"is not JSON: {error}"
        raise InvalidPayload(f"the {name} {problem}") from None


def _shared(
    saga_type: str, correlation_id: str | None, actor: str | None, metadata: Mapping[str, Any] | None
) -> dict[str, Any]:
    """The fields of a start that sagas started together share."""
    return {
        "saga_type": _text("saga_type", str(saga_type)),
        "correlation_id": _text("correlation_id", correlation_id),
        "actor": _text("actor", actor),
        "metadata": json.loads(_json_text("metadata", metadata)) if metadata else {},
    }


def _text(name: str, value: str | None) -> str | None:
    if value is not None and (not isinstance(value, str) or not 0 < len(value) <= 255 or not _is_storable(value)):
        raise InvalidPayload(f"{name} is {value!r}; a text of 1 to 255 characters is meant")
    return value


def _is_storable(text: str) -> bool:
    """File names may have halves of surrogate pairs (`os.fsdecode`)."""
    try:
        to_json(text)
    except Unstorable:
        return False
    return True


def _line(app: Celery, database_url: str | None) -> Line:
    """What it needs is imported now: a client over the broker alone has no SQLAlchemy."""
    runtime = "sagas.runtime"
    if database_url is None:
        line: Line = import_module(f"{runtime}.indirect").BrokerLine(app)
        return line
    try:
        line = import_module(f"{runtime}.direct").DirectLine(app, database_url)
    except ImportError as error:
        raise ConfigurationError(
            f"a client with database_url needs the extra hodei-sagas[server] ({error.name} is missing)"
        ) from None
    return line
