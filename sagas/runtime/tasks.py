"""The Celery tasks of the engine. Each is a few lines: who asks, what the store answers, what is published next."""

from __future__ import annotations

import functools
from dataclasses import asdict
from typing import Any

from celery import Celery
from celery.backends.rpc import RPCBackend

from sagas.definition import Saga
from sagas.errors import HodeiError, StorageUnavailable
from sagas.runtime import seen
from sagas.runtime.continuation import GoesOn
from sagas.runtime.engine import Engine
from sagas.runtime.follow_up import follow_up, starts_back
from sagas.runtime.limits import message_limit
from sagas.runtime.publish import COMPENSATE, COMPENSATIONS, CONTROL, publish_route, task_name
from sagas.runtime.reconcile import help_saga, reconcile
from sagas.runtime.relay import relay
from sagas.runtime.verbs import cancel_saga
from sagas.store.requests import StartRequest
from sagas.types import SagaId


def register_step_tasks(app: Celery, engine: Engine, sagas: list[Saga]) -> None:
    """One task for each step name, and one for each compensation; the row's version picks the function."""
    limits: dict[tuple[str, str, bool], tuple[float, str | None]] = {}
    for saga in sagas:
        for step in saga.steps:
            plan = step.plan(engine.settings.step_timeout)
            _widen(limits, (saga.name, step.name, False), plan["timeout_s"], step.rate_limit)
            if step.has_compensation:
                _widen(limits, (saga.name, step.name, True), plan["undo_timeout_s"], None)
    base = _going_on(app)
    for (saga_type, step_name, undo), (limit, rate_limit) in limits.items():
        _register_step_task(app, engine, base, saga_type, step_name, undo, limit, rate_limit)


def _going_on(app: Celery) -> type:
    return type("StepTask", (GoesOn, app.Task), {"abstract": True})


def _widen(
    limits: dict[tuple[str, str, bool], tuple[float, str | None]],
    key: tuple[str, str, bool],
    limit: float,
    rate: str | None,
) -> None:
    known = limits.get(key, (0.0, None))
    limits[key] = (max(limit, known[0]), rate or known[1])


def _register_step_task(
    app: Celery,
    engine: Engine,
    base: type,
    saga_type: str,
    step_name: str,
    undo: bool,
    limit: float,
    rate_limit: str | None,
) -> None:
    @app.task(
        base=base,
        name=task_name(saga_type, step_name, undo),
        bind=True,
        shared=False,
        acks_late=True,
        reject_on_worker_lost=False,
        ignore_result=True,
        store_errors_even_if_ignored=False,
        time_limit=message_limit(limit),
        rate_limit=rate_limit,
        max_retries=None,
    )
    def step(self: Any, saga_id: str) -> None:
        request = self.request  # asked once: Celery looks it up at each mention
        ride = bool(request.chain)
        known = _known_id(saga_id)
        try:
            report = engine.runner.run(
                known,
                step_name,
                undo=undo,
                by=engine.claimant(request.hostname),
                ride=ride,
                granted=engine.continuation.granted(known, step_name),
                may_go_on=engine.continuation.gate(step_name, undo),
                hold=engine.continuation.hold(),
                patience=engine.continuation.patience(),
            )
        except StorageUnavailable:
            request.chain = None
            raise
        if report.verdict == "held":
            return
        if report.then:
            request.chain = None
            engine.continuation.go_on(report.saga_type, report.then, undo)
            return
        problem = follow_up(engine, known, report, ride, request)
        if problem is not None:
            if starts_back(report) and engine.continuation.turn(report.saga_type, report.version, step_name):
                request.errbacks = None
            raise problem  # here, so that the traceback that Celery builds, sends and logs has few frames of ours
        engine.continuation.hand_on(request)


_known_id = functools.lru_cache(maxsize=16)(SagaId)
"""Read once for all steps of a message."""


def register_engine_tasks(app: Celery, engine: Engine) -> None:
    """`sagas.start, compensate, reconcile, relay, status, cancel`. Who answers does so by Celery's reply queue."""
    replies = RPCBackend(app, url="rpc://")
    answering: dict[str, Any] = {
        "bind": True,
        "shared": False,
        "acks_late": True,
        "ignore_result": False,
        "backend": replies,
        "queue": CONTROL,
        "autoretry_for": (StorageUnavailable,),
        "retry_backoff": True,
        "retry_backoff_max": 10,
        "max_retries": None,
        # Whoever asked is still waiting: a child that dies over the question is no answer, another one gives it.
        "retry_on_worker_lost": True,
        "default_retry_delay": 1,
        # A refusal is an answer, not a fault of the worker's: it is logged in one line.
        "throws": (HodeiError,),
    }
    quiet: dict[str, Any] = {"shared": False, "ignore_result": True}

    @app.task(name="sagas.start", **answering)
    def start(
        self: Any,
        saga_type: str,
        payload: dict[str, Any] | None = None,
        idempotency_key: str | None = None,
        saga_id: str | None = None,
        correlation_id: str | None = None,
        actor: str | None = None,
        metadata: dict[str, Any] | None = None,
    ) -> dict[str, Any]:
        engine.check_payload(saga_type, payload if payload is not None else {})
        answer = engine.store.start(
            StartRequest(
                saga_type=saga_type,
                payload=payload if payload is not None else {},
                # A message that comes twice starts one saga: its own id is the key of whoever gave none.
                idempotency_key=idempotency_key or (None if saga_id else self.request.id),
                correlation_id=correlation_id,
                actor=actor,
                saga_id=SagaId(saga_id) if saga_id else None,
                metadata=metadata,
                published=True,
            )
        )
        publish_route(app, answer["saga_id"], saga_type, answer["route"], undo=False)
        return {"saga_id": answer["saga_id"], "created": answer["created"]}

    @app.task(name="sagas.status", **answering)
    def status(self: Any, saga_id: str) -> dict[str, Any]:
        result = engine.repository.result(saga_id)
        return {
            "status": asdict(engine.repository.status(saga_id)),
            "result": asdict(result) if result else None,
        }

    @app.task(name="sagas.cancel", **answering)
    def cancel(self: Any, saga_id: str, reason: str = "cancelled", actor: str | None = None) -> str:
        return cancel_saga(engine, SagaId(saga_id), reason, actor)

    # One argument and bind=True: dispatched as a task of its own, never run inline in a dying worker (L41).
    @app.task(name=COMPENSATE, base=_going_on(app), bind=True, acks_late=True, queue=COMPENSATIONS, **quiet)
    def compensate(self: Any, saga_id: str) -> None:
        help_saga(engine, SagaId(saga_id))

    @app.task(name="sagas.reconcile", queue=CONTROL, **quiet)
    def tick() -> None:
        seen.note(engine.settings.home, "broker")  # it has brought this tick
        try:
            reconcile(engine)
        finally:
            relay(engine)

    @app.task(name="sagas.relay", queue=CONTROL, **quiet)
    def relay_tick() -> None:
        relay(engine)
