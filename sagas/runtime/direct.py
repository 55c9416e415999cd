"""A client's line to the engine over SQL: the same functions that the workers call."""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import replace
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any

from celery import Celery
from celery.exceptions import SoftTimeLimitExceeded

from sagas.errors import ConfigurationError
from sagas.results import SagaResult, SagaStatus
from sagas.runtime.copies import on_redis
from sagas.runtime.engine import Engine, engine_of
from sagas.runtime.packs import packed, packs, size
from sagas.runtime.publish import publish_route, together
from sagas.runtime.stencil import Stencils
from sagas.runtime.verbs import cancel_saga
from sagas.runtime.writers import Writers
from sagas.settings import load, normalise_database_url
from sagas.store.requests import StartRequest
from sagas.store.wire import OtherRoute
from sagas.types import SagaId

if TYPE_CHECKING:
    from sagas.runtime.ahead import Ahead

log = logging.getLogger(__name__)

BATCH = 100
"""Sagas that `start_many` starts in one transaction, and whose messages it publishes together."""
WRITERS = 2
"""So many of those transactions at once: a hundred takes PostgreSQL longer than the client, and one backend each."""


class DirectLine:
    """Reads and writes PostgreSQL itself; the broker only gets the first message."""

    def __init__(self, app: Celery, database_url: str) -> None:
        try:
            # An app that has sagas installed: its definitions check payloads before anything is written.
            installed = engine_of(app)
            settings = replace(installed.settings, database_url=normalise_database_url(database_url))
            self._engine = Engine(app, settings, installed.registry, keeps=True)
        except ConfigurationError:
            self._engine = Engine(app, load(database_url=database_url), keeps=True)

    def start(self, fields: dict[str, Any], session: Any, timeout: float, confirm: bool) -> str:
        self._engine.check_payload(fields["saga_type"], fields["payload"])
        request = StartRequest(**{**fields, "saga_id": SagaId(fields["saga_id"]), "published": session is None})
        if session is not None:
            return str(self._engine.store.start(request, session=session)["saga_id"])
        if self._ahead is not None:
            return self._start_ahead(self._ahead, request)
        answer = self._engine.store.start(request)
        publish_route(self._engine.app, answer["saga_id"], request.saga_type, answer["route"], undo=False)
        return str(answer["saga_id"])

    def _start_ahead(self, ahead: Ahead, request: StartRequest) -> str:
        """Its message is made, and may be published, while its rows are written."""
        begun = ahead.begin(str(request.saga_id), request.saga_type, request.idempotency_key)
        try:
            asked = request._replace(route=begun.route) if begun and begun.line else request
            answer = self._engine.store.start(asked)
        except OtherRoute:
            # Nothing is started. What is published already is another id's, and nobody's.
            ahead.is_other(request.saga_type)
            begun, answer = None, self._engine.store.start(request._replace(saga_id=SagaId.new()))
        except Exception:
            ahead.forget(request.saga_type)
            raise
        ahead.publish(begun, str(answer["saga_id"]), request.saga_type, answer["route"])
        return str(answer["saga_id"])

    @cached_property
    def _ahead(self) -> Ahead | None:
        """Where kombu's transport for Redis is at hand, and is what the app's messages go by."""
        try:
            if not on_redis(self._engine.app.connection_for_write()):
                return None
        except Exception:  # noqa: BLE001 - a broker that cannot be is the message's trouble, not the saga's
            return None
        from sagas.runtime.ahead import Ahead

        return Ahead(self._engine.app)

    def start_many(self, fields: list[dict[str, Any]], session: Any) -> Iterator[str]:
        if not fields:
            return iter(())
        self._engine.check_payload(fields[0]["saga_type"], *(one["payload"] for one in fields))
        # Made when they are written: until then PostgreSQL has something to do.
        batches = (
            [
                StartRequest(**one, saga_id=SagaId.new(), published=session is None)
                for one in fields[first : first + BATCH]
            ]
            for first in range(0, len(fields), BATCH)
        )
        if session is None:
            most = size(self._engine, fields[0]["saga_type"], len(fields))
            hundreds = self._written_ahead((packed(batch, most) for batch in batches), len(fields) > BATCH)
        else:
            hundreds = (self._engine.store.start_many(batch, session=session) for batch in batches)
        return (str(answer["saga_id"]) for hundred in hundreds for answer in hundred)

    def _written_ahead(self, batches: Iterator[list[StartRequest]], more: bool) -> Iterator[list[dict[str, Any]]]:
        """PostgreSQL writes the rows of the next hundreds while this thread publishes the messages of one; `more`:
        there are next ones.
        """
        written: deque[tuple[list[StartRequest], Future[list[dict[str, Any]]]]] = deque()
        with Writers(WRITERS if more else 0) as database:

            def write_next() -> None:
                batch = next(batches, None)
                if batch is not None:
                    written.append((batch, database.submit(partial(self._engine.store.start_many, batch))))

            for _ in range(WRITERS + 1):  # one for whoever is through while this thread publishes
                write_next()
            while written:
                batch, future = written[0]
                try:
                    answers = future.result()
                except Exception:
                    # What is being written beside it is started all the same. So is this one, if not its own error but
                    # a signal's came here (Celery's soft time limit).
                    for other, beside in written:
                        if not beside.cancel():
                            with suppress(Exception):
                                self._publish(other, beside.result())
                    raise
                written.popleft()
                write_next()
                self._publish(batch, answers)
                yield answers

    def _publish(self, requests: list[StartRequest], answers: list[dict[str, Any]]) -> None:
        """A broker that takes none of them costs a warning: they are started, and reconcile's then."""
        app = self._engine.app
        try:
            with together(app) as producer:
                stencils = Stencils(app, producer)
                for answer, brings in packs(requests, answers):
                    stencils.publish(answer["saga_id"], requests[0].saga_type, answer["route"], brings)
                    # Whoever has PostgreSQL's answer has the next question, and would get his turn only after 5 ms
                    # (`sys.getswitchinterval`).
                    time.sleep(0)
        except SoftTimeLimitExceeded:
            raise
        except Exception as error:  # noqa: BLE001 - as `published`
            log.warning("messages of %d sagas were not published (%s); reconcile will", len(requests), error)

    def look(self, saga_id: SagaId, timeout: float) -> tuple[SagaStatus, SagaResult | None]:
        repository = self._engine.repository
        # The result first: a saga that ends in between shows its end in the status, never the reverse.
        result = repository.result(saga_id)
        return repository.status(saga_id), result

    def cancel(self, saga_id: SagaId, reason: str, actor: str | None, timeout: float) -> str:
        return cancel_saga(self._engine, saga_id, reason, actor)
