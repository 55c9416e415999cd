"""One attempt of one step, whoever runs it: claim, run, commit. Tasks and `execute_saga` both call this."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

from billiard.exceptions import SoftTimeLimitExceeded
from sqlalchemy.exc import DBAPIError

from sagas.context import Outputs, SagaContext
from sagas.definition import Saga, Step
from sagas.errors import CancelSaga, NotReady, PermanentError, StepTimeLimit, StorageUnavailable, UnknownSaga
from sagas.policy import RetryPolicy
from sagas.registry import Registry
from sagas.runtime.limits import patiently, time_limit
from sagas.settings import LEASE_MARGIN, Settings
from sagas.store.store import Claimant, Store, to_json
from sagas.types import SagaId

log = logging.getLogger(__name__)

# How long a message waits for PostgreSQL before it is dropped: the row is unclaimed, reconcile sends another.
CLAIM_PATIENCE = 10.0


@dataclass(frozen=True)
class Outcome:
    """How an attempt ended, as a value. `retry_in` None: it is not to be tried again."""

    kind: Literal["done", "failed", "unknown", "not_ready", "cancel", "not_done", "bad_output"]
    output: Any = None
    error: BaseException | None = None
    retry_in: float | None = None

    def stored_error(self) -> dict[str, str] | None:
        if self.error is None:
            return None
        text = str(self.error).replace("\x00", "\\x00").encode(errors="backslashreplace").decode()
        return {"type": type(self.error).__name__, "message": text[:2000]}


@dataclass(frozen=True)
class Report:
    """What one run did. `next` is continue, undo, again, wait or end; `route` is what is to be published for it."""

    verdict: str
    saga_type: str = ""
    phase: str = ""
    next: str = "wait"
    route: list[dict[str, Any]] = field(default_factory=list)
    outcome: Outcome | None = None

    @property
    def undo(self) -> bool:
        return self.next == "undo" or (self.phase == "undo" and self.next == "again")


class Runner:
    """Runs attempts against one store. `ports` maps Protocols to adapters."""

    def __init__(self, store: Store, registry: Registry, ports: Mapping[type, Any], settings: Settings) -> None:
        self._store = store
        self._registry = registry
        self._ports = ports
        self._settings = settings

    def run(self, saga_id: SagaId, step_name: str, *, undo: bool, by: Claimant, ride: bool = False) -> Report:
        """One attempt. `ride`: the message at hand carries the successor, too. Raises StorageUnavailable."""
        attempt_id = uuid.uuid4()
        claim = patiently(lambda: self._store.claim(saga_id, step_name, undo, attempt_id, by), CLAIM_PATIENCE)
        if claim["verdict"] != "granted":
            log.info("saga %s step %s: claim refused, %s", saga_id, step_name, claim["verdict"])
            return Report(claim["verdict"])
        attempt = _Attempt(self._store, self._registry, self._ports, self._settings, saga_id, step_name, attempt_id)
        outcome, answer = attempt.run(claim, ride)
        if answer["verdict"] not in ("committed", "recorded"):
            log.warning("saga %s step %s: attempt %s came late (%s)", saga_id, step_name, attempt_id, answer["verdict"])
        return Report(
            verdict=answer["verdict"],
            saga_type=claim["saga_type"],
            phase=claim["phase"],
            next=answer["next"],
            route=answer.get("route") or [],
            outcome=outcome,
        )


@dataclass(frozen=True)
class _Attempt:
    """One granted claim."""

    store: Store
    registry: Registry
    ports: Mapping[type, Any]
    settings: Settings
    saga_id: SagaId
    step_name: str
    attempt_id: uuid.UUID

    def run(self, claim: dict[str, Any], ride: bool) -> tuple[Outcome, dict[str, Any]]:
        try:
            saga = self.registry.get(claim["saga_type"], claim["version"])
            step = saga.get(self.step_name)
        except (UnknownSaga, KeyError) as error:
            # This worker lacks the code; another one may have it. Asked again until the step's time is up.
            outcome = Outcome("not_ready", error=error, retry_in=5.0)
            return outcome, self._commit(claim, outcome, [], ride)
        ctx = self._context(claim)
        if claim["first"] and (refusal := _check_payload(saga, ctx)):
            return refusal, self._commit(claim, refusal, [], ride)
        if claim["transactional"]:
            return self._in_transaction(claim, step, ctx, ride)
        outcome = self._checked(execute(step, ctx, claim), acted=True)
        return outcome, self._commit(claim, outcome, ctx.events, ride)

    def _context(self, claim: dict[str, Any]) -> SagaContext:
        return SagaContext(
            saga_id=self.saga_id,
            saga_type=claim["saga_type"],
            correlation_id=claim["correlation_id"],
            actor=claim["actor"],
            started_at=datetime.fromisoformat(claim["started_at"]),
            metadata=claim["context"].get("metadata") or {},
            payload=claim["context"].get("payload"),
            outputs=Outputs(claim["outputs"], lambda: self.store.outputs(self.saga_id)),
            output=claim["output"],
            step=self.step_name,
            attempt=claim["attempt"],
            attempt_id=self.attempt_id,
            compensation_data=claim["compensation_data"],
            ports=self.ports,
            _store_undo=self._store_undo,
        )

    def _store_undo(self, data: Any) -> None:
        if not self.store.prepare_undo(self.saga_id, self.step_name, self.attempt_id, data):
            # The claim is gone: going on would begin an effect that nobody expects any more.
            raise StepTimeLimit("the claim was taken over before prepare_undo")

    def _checked(self, outcome: Outcome, *, acted: bool) -> Outcome:
        """An output that cannot be stored: the effect exists, so the step fails for good and is undone."""
        if outcome.kind != "done":
            return outcome
        try:
            size = len(to_json(outcome.output))
        except (TypeError, ValueError) as error:
            problem = f"its output is not JSON: {error}"
        else:
            if size <= self.settings.max_payload:
                return outcome
            problem = f"its output has {size} bytes, more than {self.settings.max_payload}"
        return Outcome("bad_output" if acted else "failed", error=TypeError(f"step {self.step_name}: {problem}"))

    def _commit(
        self, claim: dict[str, Any], outcome: Outcome, events: list[tuple[str, dict[str, Any]]], ride: bool
    ) -> dict[str, Any]:
        """Record the outcome, however long PostgreSQL is away: until the lease has run out it may still count."""

        def commit() -> dict[str, Any]:
            return self.store.commit(
                self.saga_id,
                self.step_name,
                self.attempt_id,
                outcome.kind,
                output=outcome.output if outcome.kind == "done" else None,
                error=outcome.stored_error(),
                events=events if outcome.kind == "done" else None,
                retry_in=outcome.retry_in,
                ride=ride,
            )

        return patiently(commit, claim["timeout_s"] + LEASE_MARGIN)

    def _in_transaction(
        self, claim: dict[str, Any], step: Step, ctx: SagaContext, ride: bool
    ) -> tuple[Outcome, dict[str, Any]]:
        """Exactly once: the step's writes commit together with its record, or neither does."""
        from sqlalchemy.orm import Session

        try:
            with Session(self.store.engine) as session:
                limit_ms = int(claim["timeout_s"] * 1000)
                session.connection().exec_driver_sql(f"SET LOCAL idle_in_transaction_session_timeout = {limit_ms}")
                ctx._session = session
                outcome = self._checked(execute(step, ctx, claim), acted=False)
                if outcome.kind == "done":
                    answer = self.store.commit(
                        self.saga_id,
                        self.step_name,
                        self.attempt_id,
                        "done",
                        output=outcome.output,
                        events=ctx.events,
                        ride=ride,
                        session=session,
                    )
                    if answer["verdict"] == "committed":
                        session.commit()
                        return outcome, answer
                    session.rollback()
                    if answer["verdict"] == "late":
                        return outcome, {"verdict": "late", "next": "wait"}
        except (DBAPIError, StorageUnavailable) as error:
            # It may have committed or not: the record, asked by the attempt's id, knows.
            outcome = Outcome("unknown", error=error)
        return outcome, self._commit(claim, outcome, [], ride)


def execute(step: Step, ctx: SagaContext, claim: Mapping[str, Any]) -> Outcome:
    """The author's code, and what its end means (R2)."""
    phase = claim["phase"]
    policy = step.undo_retry if phase == "undo" else step.retry
    try:
        with time_limit(claim["timeout_s"]):
            if phase == "undo":
                step.compensate(ctx)
                return Outcome("done")
            if phase == "verify":
                return _verified(step, ctx, policy)
            return Outcome("done", output=step.execute(ctx))
    except (StepTimeLimit, SoftTimeLimitExceeded) as error:
        return Outcome("unknown", error=error, retry_in=policy.delay(ctx.attempt))
    except NotReady as error:
        return Outcome("not_ready", error=error, retry_in=max(error.retry_in, 0.05))
    except CancelSaga as error:
        return Outcome("failed" if phase == "undo" else "cancel", error=error)
    except Exception as error:  # noqa: BLE001 - whatever the author's code raises is an outcome
        return _raised(step, phase, policy, error, ctx.attempt)


def _verified(step: Step, ctx: SagaContext, policy: RetryPolicy) -> Outcome:
    answer = step.probe(ctx) if step.probe else None
    if answer is None:
        return Outcome("not_done", retry_in=policy.delay(1))
    if not isinstance(answer, dict):
        return Outcome("failed", error=TypeError(f"verify of {step.name} answered {answer!r}: a dict or None is meant"))
    return Outcome("done", output=answer)


def _raised(step: Step, phase: str, policy: RetryPolicy, error: Exception, attempt: int) -> Outcome:
    delay = policy.delay(attempt)
    if phase == "verify":
        return Outcome("failed", error=error, retry_in=delay)
    # Only what the author has named says that nothing happened; any other exception says nothing.
    told = isinstance(error, (PermanentError, *policy.retry_on))
    if phase == "forward" and not step.is_idempotent and not told:
        return Outcome("unknown", error=error)
    return Outcome("failed", error=error, retry_in=None if policy.gives_up_on(error) else delay)


def _check_payload(saga: Saga, ctx: SagaContext) -> Outcome | None:
    """A start in SQL cannot check the schema: a payload that does not fit ends the saga before any step."""
    if saga.payload is None:
        return None
    try:
        saga.payload.model_validate(ctx.payload)
    except ValueError as error:
        return Outcome("cancel", error=ValueError(f"the payload does not fit {saga.payload.__name__}: {error}"))
    return None
