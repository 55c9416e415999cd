"""A client's line to the engine over the broker alone: a message to a control worker, and its answer.

The answer comes the way Celery's own `rpc://` results do. They are read here, not by Celery's backend: that one
reconnects to a dead broker for longer than anybody's time-out. Needs celery (and its broker's client), nothing else.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterable, Mapping
from typing import Any

from celery import Celery
from kombu import Connection, Exchange, Queue
from kombu.exceptions import OperationalError

import sagas.errors
from sagas.errors import BrokerUnavailable, ConfigurationError, HodeiError, SagaTimeout
from sagas.results import SagaResult, SagaStatus, StepStatus
from sagas.types import SagaId, SagaState, StepState

CONNECT = 5.0  # seconds until a broker that does not answer is given up


class BrokerLine:
    """Asks whichever worker consumes the queue `control`."""

    def __init__(self, app: Celery) -> None:
        self._app = app
        self._name = f"hodei.replies.{uuid.uuid4()}"

    def start(self, fields: dict[str, Any], session: Any, timeout: float, confirm: bool) -> str:
        if session is not None:
            raise ConfigurationError("start(session=...) commits with your own rows: give the client database_url, too")
        answer = self._ask("sagas.start", fields, timeout, wait=confirm)
        return str(answer["saga_id"] if confirm else fields["saga_id"])

    def start_many(self, fields: list[dict[str, Any]], session: Any) -> Iterable[str]:
        raise ConfigurationError("start_many writes the sagas itself: give the client database_url, too")

    def look(self, saga_id: SagaId, timeout: float) -> tuple[SagaStatus, SagaResult | None]:
        answer = self._ask("sagas.status", {"saga_id": str(saga_id)}, timeout)
        return _status(answer["status"]), _result(answer["result"])

    def cancel(self, saga_id: SagaId, reason: str, actor: str | None, timeout: float) -> str:
        return str(self._ask("sagas.cancel", {"saga_id": str(saga_id), "reason": reason, "actor": actor}, timeout))

    def _ask(self, task: str, kwargs: dict[str, Any], timeout: float, *, wait: bool = True) -> Any:
        connection = self._connection()
        try:
            with connection:
                connection.ensure_connection(max_retries=1, interval_start=0, timeout=CONNECT)
                if wait:
                    return self._converse(connection, task, kwargs, timeout)
                self._send(connection, task, kwargs, str(uuid.uuid4()), ignore_result=True)
                return None
        except TimeoutError:
            raise SagaTimeout(
                f"no worker answered {task} within {timeout} s; is one running on queue control?"
            ) from None
        except (OperationalError, OSError, *connection.connection_errors, *connection.channel_errors) as error:
            raise BrokerUnavailable(f"the broker does not answer: {error}") from None

    def _connection(self) -> Connection:
        connection = self._app.connection_for_write(connect_timeout=CONNECT)
        if connection.transport.driver_type == "redis":
            limits = {"socket_connect_timeout": CONNECT, "socket_timeout": CONNECT}
            connection.transport_options = {**limits, **(connection.transport_options or {})}
        return connection

    def _send(self, connection: Connection, task: str, kwargs: dict[str, Any], task_id: str, **options: Any) -> None:
        self._app.send_task(
            task, kwargs=kwargs, task_id=task_id, queue="control", connection=connection, retry=False, **options
        )

    def _converse(self, connection: Connection, task: str, kwargs: dict[str, Any], timeout: float) -> Any:
        """Send, and wait for the answer to just this. Raises TimeoutError, and the error that was answered."""
        task_id = str(uuid.uuid4())
        answers: list[Mapping[str, Any]] = []

        def receive(body: Any, message: Any) -> None:
            # The answer to an earlier question may come late; nobody waits for it any more.
            if (
                isinstance(body, Mapping)
                and body.get("task_id") == task_id
                and body["status"] in ("SUCCESS", "FAILURE")
            ):
                answers.append(body)

        replies = Queue(
            self._name, Exchange("", type="direct"), self._name, durable=False, auto_delete=True, no_ack=True
        )
        until = time.monotonic() + timeout
        with connection.Consumer(replies, callbacks=[receive], accept=["json"]):
            self._send(connection, task, kwargs, task_id, reply_to=self._name)
            while not answers:
                left = until - time.monotonic()
                if left <= 0:
                    raise TimeoutError
                connection.drain_events(timeout=left)
        (answer,) = answers
        if answer["status"] == "FAILURE":
            raise _error(answer["result"])
        return answer["result"]


def _error(told: Mapping[str, Any]) -> Exception:
    """The library's own error for one that travelled as JSON."""
    kind = getattr(sagas.errors, str(told.get("exc_type")), None)
    message = told.get("exc_message")
    text = " ".join(map(str, message)) if isinstance(message, list | tuple) else str(message)
    if isinstance(kind, type) and issubclass(kind, HodeiError):
        return kind(text)
    return HodeiError(f"the worker failed: {told.get('exc_type')}: {text}")


def _status(data: Mapping[str, Any]) -> SagaStatus:
    return SagaStatus(
        state=SagaState(data["state"]),
        current_step=data["current_step"],
        steps=tuple(
            StepStatus(step["name"], StepState(step["state"]), step["attempt"], step["error"]) for step in data["steps"]
        ),
        error=data["error"],
        saga_id=SagaId(data["saga_id"]),
        saga_type=data["saga_type"],
    )


def _result(data: Mapping[str, Any] | None) -> SagaResult | None:
    if data is None:
        return None
    return SagaResult(
        saga_id=SagaId(data["saga_id"]),
        outcome=SagaState(data["outcome"]),
        steps_executed=data["steps_executed"],
        compensations_executed=data["compensations_executed"],
        outputs=data["outputs"],
        error=data["error"],
    )
