"""One attempt of one step, whoever runs it: claim, run, commit. Tasks and `execute_saga` both call this."""

from __future__ import annotations

import logging
import time
import uuid
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sagas.context import Outputs, SagaContext
from sagas.errors import InvalidPayload, StepTimeLimit, StorageUnavailable, UnknownSaga
from sagas.jsontext import JsonText, to_json
from sagas.registry import Registry
from sagas.runtime.ended import HELD, Ended, Hold, Report
from sagas.runtime.handover import Granted, Handover, MayGoOn
from sagas.runtime.limits import CLAIM_PATIENCE, COMMIT_PATIENCE, ROWS_AWAITED, patiently
from sagas.runtime.outcomes import Outcome, execute
from sagas.runtime.renewal import renewed
from sagas.runtime.transaction import together
from sagas.settings import Settings
from sagas.step import Step
from sagas.store.requests import Claimant
from sagas.store.store import Store
from sagas.store.wire import is_held_up
from sagas.types import SagaId

log = logging.getLogger(__name__)


class Runner:
    """Runs attempts against one store. `ports` maps Protocols to adapters, `shadow_ports` those of shadow sagas."""

    def __init__(
        self,
        store: Store,
        registry: Registry,
        ports: Mapping[type, Any],
        settings: Settings,
        shadow_ports: Mapping[type, Any] | None = None,
    ) -> None:
        self._store = store
        self._registry = registry
        self._ports = ports
        self._settings = settings
        self._shadow_ports = shadow_ports or {}

    def run(
        self,
        saga_id: SagaId,
        step_name: str,
        *,
        undo: bool,
        by: Claimant,
        ride: bool = False,
        granted: Granted | None = None,
        may_go_on: MayGoOn | None = None,
        hold: Hold | None = None,
        patience: float = CLAIM_PATIENCE,
    ) -> Report:
        """One attempt. `ride`: the message at hand carries the successor, too. Raises StorageUnavailable.

        `patience`: how long (seconds) PostgreSQL may be away at the claim. `granted`: it is claimed already.
        `may_go_on`: the commit may claim what comes next, which the caller then runs (`Report.then`). `hold`: takes a
        step that is done, for `commit_all`; the report's verdict is then "held".
        """
        attempt_id = granted.attempt_id if granted else uuid.uuid4()
        claim = (granted and granted.claim) or self._claim(saga_id, step_name, undo, attempt_id, by, patience)
        if claim["verdict"] != "granted":
            log.info("saga %s step %s: claim refused, %s", saga_id, step_name, claim["verdict"])
            return Report(claim["verdict"])
        ports = self._shadow_ports if claim.get("shadow") else self._ports
        attempt = _Attempt(
            self._store,
            self._registry,
            ports,
            self._settings,
            saga_id,
            step_name,
            attempt_id,
            Handover(may_go_on, claim) if may_go_on else None,
            hold,
        )
        outcome, answer = attempt.run(claim, ride)
        return Ended(saga_id, step_name, attempt_id, claim, outcome, next=attempt.next).report(answer)

    def claim_all(
        self, sagas: Sequence[SagaId], version: int, step: str, by: Claimant, patience: float
    ) -> list[Granted]:
        """Claim that step of each saga of that version. What is without a claim was not granted, or its reply was lost:
        to be asked again as the same attempt.
        """
        asked = {saga_id: uuid.uuid4() for saga_id in sagas}
        answers: Sequence[dict[str, Any] | None] = [None] * len(asked)
        try:
            answers = patiently(lambda: self._store.claim_many(asked, version, step, by), patience)
        except Exception:
            log.warning("step %s: %d sagas were not claimed together", step, len(asked), exc_info=True)
        return [
            Granted(saga_id, step, attempt_id, claim if claim and claim["verdict"] == "granted" else {})
            for (saga_id, attempt_id), claim in zip(asked.items(), answers, strict=True)
        ]

    def commit_all(self, ended: Sequence[Ended]) -> list[Report | None]:
        """One commit for all of them: what is done, and claims that have not begun. A report for each; None where the
        saga's row is held just now, so that it is to be asked for again.
        """
        try:
            return patiently(lambda: self._commit_many(ended), COMMIT_PATIENCE)
        except StorageUnavailable as error:
            log.error("%d sagas: their ends are not on record, %s", len(ended), error)
            return [Report("lost") for _ in ended]

    def _commit_many(self, ended: Sequence[Ended]) -> list[Report | None]:
        """At once; each alone if that is refused or held up, so that one of them does not take the others with it."""
        if not ended:
            return []
        try:
            answers = self._store.commit_many([one.attempt() for one in ended])
        except Exception as error:
            if isinstance(error, StorageUnavailable) and not is_held_up(error):
                raise
            if len(ended) > 1:
                return [report for one in ended for report in self._commit_many([one])]
            if isinstance(error, StorageUnavailable):
                return [None]
            log.exception("saga %s step %s: its end is not on record", ended[0].saga_id, ended[0].step)
            return [Report("lost")]
        return [one.report(answer) if answer else None for one, answer in zip(ended, answers, strict=True)]

    def commit_alone(self, ended: Ended) -> Report:
        """Wait for its row; nothing is claimed by it."""

        def commit() -> dict[str, Any]:
            ids = (ended.saga_id, ended.step, ended.attempt_id)
            kind, text = ended.outcome.kind, ended.outcome.text
            return self._store.commit(*ids, kind, output=text, events=list(ended.events))

        try:
            return ended._replace(next=None).report(patiently(commit, COMMIT_PATIENCE))
        except Exception:
            log.exception("saga %s step %s: its end is not on record", ended.saga_id, ended.step)
            return Report("lost")

    def _claim(
        self, saga_id: SagaId, step_name: str, undo: bool, attempt_id: uuid.UUID, by: Claimant, patience: float
    ) -> dict[str, Any]:
        until = time.monotonic() + patience

        def ask() -> dict[str, Any]:
            left = until - time.monotonic()
            return patiently(lambda: self._store.claim(saga_id, step_name, undo, attempt_id, by), left)

        answer = ask()
        for pause in ROWS_AWAITED:
            if answer["verdict"] != "unknown_saga":
                break
            time.sleep(pause)
            answer = ask()
        return answer


@dataclass(slots=True)
class _Attempt:
    """One granted claim."""

    store: Store
    registry: Registry
    ports: Mapping[type, Any]
    settings: Settings
    saga_id: SagaId
    step_name: str
    attempt_id: uuid.UUID
    next: Handover | None = None
    hold: Hold | None = None

    def run(self, claim: dict[str, Any], ride: bool) -> tuple[Outcome, dict[str, Any]]:
        try:
            saga = self.registry.get(claim["saga_type"], claim["version"])
            step = saga.get(self.step_name)
        except (UnknownSaga, KeyError) as error:
            # This worker lacks the code; another one may have it. Asked again until the step's time is up.
            outcome = Outcome("not_ready", error=error, retry_in=5.0)
            return outcome, self._commit(claim, outcome, [], ride)
        ctx = self._context(claim)
        if claim["first"] and claim["phase"] == "forward" and claim["attempt"] == 1:
            # A start in SQL cannot check the schema: a payload that does not fit ends the saga before any step.
            try:
                saga.check_payload(ctx.payload)
            except InvalidPayload as error:
                outcome = Outcome("refused", error=error)
                return outcome, self._commit(claim, outcome, [], ride)
        if claim["transactional"]:
            return self._in_transaction(claim, step, ctx, ride)
        with self._renewed(claim):
            outcome = execute(step, ctx, claim)
        if outcome.kind == "child":
            return self._start_child(claim, step, outcome, ride)
        outcome = self._checked(outcome, acted=True)
        if self.hold and outcome.kind == "done" and claim["phase"] == "forward":
            self.hold(Ended(self.saga_id, self.step_name, self.attempt_id, claim, outcome, ctx.events, self.next))
            return outcome, HELD
        return outcome, self._commit(claim, outcome, ctx.events, ride)

    def _start_child(
        self, claim: dict[str, Any], step: Step, outcome: Outcome, ride: bool
    ) -> tuple[Outcome, dict[str, Any]]:
        """The child starts by the commit, so that a payload which does not do is this step's failure, and no effect."""
        try:
            if not isinstance(outcome.output, Mapping):
                raise InvalidPayload(f"step {self.step_name}: the payload is {outcome.output!r}; a dict is meant")
            with suppress(UnknownSaga):  # another worker's saga: the database knows whether it exists
                self.registry.latest(str(step.child)).check_payload(outcome.output)
            return outcome, self._commit(claim, outcome, [], ride)
        except (InvalidPayload, UnknownSaga, TypeError, ValueError) as error:
            refused = Outcome("failed", error=error)
            return refused, self._commit(claim, refused, [], ride)

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

    def _renewed(self, claim: dict[str, Any]) -> AbstractContextManager[None]:
        return renewed(self.store, self.saga_id, self.step_name, self.attempt_id, claim["timeout_s"])

    def _store_undo(self, data: Any) -> None:
        if not self.store.prepare_undo(self.saga_id, self.step_name, self.attempt_id, data):
            # The claim is gone: going on would begin an effect that nobody expects any more.
            raise StepTimeLimit("the claim was taken over before prepare_undo")

    def _checked(self, outcome: Outcome, *, acted: bool) -> Outcome:
        """An output that cannot be stored: the effect exists, so the step fails for good and is undone."""
        if outcome.kind != "done":
            return outcome
        try:
            text = JsonText(to_json(outcome.output))
        except (TypeError, ValueError) as error:
            problem = f"its output is not JSON: {error}"
        else:
            if len(text) <= self.settings.max_payload:
                return Outcome("done", output=outcome.output, text=text)
            problem = f"its output has {len(text)} bytes, more than {self.settings.max_payload}"
        return Outcome("bad_output" if acted else "failed", error=TypeError(f"step {self.step_name}: {problem}"))

    def _commit(
        self, claim: dict[str, Any], outcome: Outcome, events: list[tuple[str, dict[str, Any]]], ride: bool
    ) -> dict[str, Any]:
        """Record the outcome, however long PostgreSQL is away: its leases are judged only when it is back (R11)."""

        return patiently(lambda: self._record(claim, outcome, events, ride), COMMIT_PATIENCE)

    def _record(
        self,
        claim: dict[str, Any],
        outcome: Outcome,
        events: list[tuple[str, dict[str, Any]]],
        ride: bool,
        session: Any = None,
    ) -> dict[str, Any]:
        done = outcome.kind in ("done", "child")
        onward = self.next.onward() if self.next and outcome.kind == "done" else None
        return self.store.commit(
            self.saga_id,
            self.step_name,
            self.attempt_id,
            outcome.kind,
            output=(outcome.text or outcome.output) if done else None,
            error=outcome.stored_error(),
            events=events if done else None,
            retry_in=outcome.retry_in,
            ride=ride,
            onward=onward,
            undo=claim["phase"] == "undo",
            session=session,
        )

    def _in_transaction(
        self, claim: dict[str, Any], step: Step, ctx: SagaContext, ride: bool
    ) -> tuple[Outcome, dict[str, Any]]:
        """Exactly once: the step's writes commit together with its record, or neither does."""

        def act(session: Any) -> Outcome:
            ctx._session = session
            with self._renewed(claim):
                return self._checked(execute(step, ctx, claim), acted=False)

        def record(session: Any, outcome: Outcome) -> dict[str, Any]:
            return self._record(claim, outcome, ctx.events, ride, session)

        def refused(error: Exception) -> Outcome:
            again = None if step.retry.gives_up_on(error) else step.retry.delay(ctx.attempt)
            return Outcome("failed", error=error, retry_in=again)

        outcome, answer = together(self.store.engine, claim["timeout_s"], act, record, refused)
        if answer.get("verdict") == "late":
            # Rolled back, and so is what the late report would have written: there is no effect.
            return outcome, {"verdict": "late", "next": "wait"}
        return outcome, answer or self._commit(claim, outcome, [], ride)
