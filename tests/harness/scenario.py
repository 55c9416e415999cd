"""Scenario as data: sagas of four steps whose payload says what happens in each, so that a new case is a row.

`plan(two="die", undo_one="flaky:2", verify_two="unknown")` is the payload. What a step does is a list of actions joined
by `+`, in order; the effect comes where `effect` stands, else before the first action of the second kind, else last.

    ok               nothing special
    fail             PermanentError
    raise            RuntimeError in every attempt: retried until the policy gives up
    flaky[:n]        RuntimeError in the first n (1) attempts
    notready[:n]     NotReady until it was asked n (1) times
    cancel           CancelSaga
    hang[:n]         sleeps without end in the first n (1) attempts
    slow[:seconds]   sleeps (1 s)
    lock:name        blocks while a test holds that lock

after the effect:

    die[:n]          SIGKILLs its own process in the first n (1) attempts
    half             RuntimeError in every attempt, with the effect made
    stall[:n]        sleeps without end in the first n (1) attempts, with the effect made
    gate:name        blocks while a test holds that lock, with the effect made
    junk             an output that is not JSON

An undo knows the same words; its effect is the row `undo`. `verify` answers from the log unless `verify_<step>` says
`yes`, `no`, `unknown` (raises) or `lock:name`. Each entry leaves a row `begin`, `undo_begin` or `verify`.
"""

import os
import signal as signals
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NoReturn

from sagas import CancelSaga, NotReady, PermanentError, RetryPolicy, Saga, SagaContext
from tests.harness.effects import URL_VARIABLE, Effects, record, wait_for_lock

STEPS = ("one", "two", "three", "four")
PATIENCE = RetryPolicy(max_attempts=3, backoff=0.1, factor=1, jitter=0)
LONG = 3600.0


def plan(**actions: str) -> dict[str, Any]:
    """The payload; keys are `one`, `undo_one`, `verify_one` and so on, values are actions. What is absent is `ok`."""
    known = {prefix + step for prefix in ("", "undo_", "verify_") for step in STEPS}
    assert set(actions) <= known, f"unknown: {sorted(set(actions) - known)}"
    return {"plan": actions}


@dataclass
class Act:
    """One attempt of one step (or of its undo) playing its part of the plan."""

    ctx: SagaContext
    effect_kind: str
    tries: int
    """Which attempt this is as the log tells it: 1, 2, ... (the engine's own count is not trusted)."""
    effect_made: bool = False
    result: Any = None

    def note(self, kind: str) -> None:
        """Append a row about this attempt to the effects log."""
        ctx = self.ctx
        record(kind, key=ctx.idempotency_key, saga_id=ctx.saga_id, step=ctx.step, attempt=ctx.attempt)

    def effect(self, _: str = "") -> None:
        """Make the effect, once in an attempt."""
        if not self.effect_made:
            self.effect_made = True
            self.note(self.effect_kind)

    def play(self, actions: str) -> Any:
        """Do what the plan says; the step's output."""
        for action in actions.split("+"):
            word, _, argument = action.partition(":")
            if word in AFTER_EFFECT:
                self.effect()
            (BEFORE_EFFECT | AFTER_EFFECT)[word](self, argument)
        self.effect()
        return self.result

    def early(self, argument: str) -> bool:
        """Whether this is one of the first `argument` (1) attempts."""
        return self.tries <= int(argument or 1)


def _raise(error: BaseException) -> NoReturn:
    raise error


def _die(act: Act, argument: str) -> None:
    if act.early(argument):
        os.kill(os.getpid(), signals.SIGKILL)


def _hang(act: Act, argument: str) -> None:
    if act.early(argument):
        time.sleep(LONG)


def _flaky(act: Act, argument: str) -> None:
    if act.early(argument):
        raise RuntimeError(f"flaky, try {act.tries}")


def _not_ready(act: Act, argument: str) -> None:
    if act.early(argument):
        raise NotReady(retry_in=0.1)


def _junk(act: Act, _: str) -> None:
    act.result = {"not": {"json"}}


Verb = Callable[[Act, str], None]
BEFORE_EFFECT: dict[str, Verb] = {
    "ok": lambda act, _: None,
    "effect": Act.effect,
    "fail": lambda act, _: _raise(PermanentError("planned")),
    "raise": lambda act, _: _raise(RuntimeError("planned")),
    "flaky": _flaky,
    "notready": _not_ready,
    "cancel": lambda act, _: _raise(CancelSaga("planned")),
    "hang": _hang,
    "slow": lambda act, seconds: time.sleep(float(seconds or 1)),
    "lock": lambda act, name: wait_for_lock(name),
}
AFTER_EFFECT: dict[str, Verb] = {
    "die": _die,
    "half": lambda act, _: _raise(RuntimeError("planned, with its effect made")),
    "stall": _hang,
    "gate": lambda act, name: wait_for_lock(name),
    "junk": _junk,
}


def _act(ctx: SagaContext, begin: str, effect: str) -> Act:
    before = _log().count(begin, saga_id=ctx.saga_id, step=ctx.step)
    act = Act(ctx, effect, tries=before + 1)
    act.note(begin)
    return act


def _log() -> Effects:
    return Effects(os.environ[URL_VARIABLE])


def _actions(ctx: SagaContext, name: str, default: str = "ok") -> str:
    return str(ctx.payload.get("plan", {}).get(name, default))


def execute(ctx: SagaContext) -> Any:
    """The body of every step. The output tells the step, its attempt and what it was given."""
    act = _act(ctx, "begin", "effect")
    act.result = {"step": ctx.step, "attempt": ctx.attempt, "after": sorted(ctx.outputs)}
    return act.play(_actions(ctx, ctx.step))


def undo(ctx: SagaContext) -> None:
    """The compensation of every step."""
    _act(ctx, "undo_begin", "undo").play(_actions(ctx, f"undo_{ctx.step}"))


def verify(ctx: SagaContext) -> dict[str, Any] | None:
    """The probe: what the log says, unless the plan says otherwise."""
    record("verify", key=ctx.idempotency_key, saga_id=ctx.saga_id, step=ctx.step, attempt=ctx.attempt)
    word, _, argument = _actions(ctx, f"verify_{ctx.step}", "log").partition(":")
    if word == "lock":
        wait_for_lock(argument)
    if word == "unknown":
        raise RuntimeError("planned: the other side does not know")
    there = word == "yes" or (word != "no" and _log().count("effect", key=ctx.idempotency_key) > 0)
    return {"step": ctx.step, "verified": True} if there else None


def build(name: str, version: int = 1, *, verified: bool = False, **options: dict[str, Any]) -> Saga:
    """A saga of the four steps; `options` are those of `Saga.step` by step (`two={"idempotent": False}`).

    Without options a step is idempotent and has an undo; `undo=False` takes that away, `verified` gives all a `verify`.
    """
    saga = Saga(name, version=version)
    for step_name in STEPS:
        own = {"retry": PATIENCE, "timeout": 20, **options.get(step_name, {})}
        has_undo = own.pop("undo", True)
        step = saga.step(name=step_name, **own)(execute)
        if has_undo:
            step.compensation(retry=PATIENCE)(undo)
        if verified:
            step.verify(verify)
    return saga


ONCE = {"idempotent": False}
scenario = build("scenario")
scenario_once = build("scenario_once", verified=True, one=ONCE, two=ONCE, three=ONCE, four=ONCE)
scenario_blind = build("scenario_blind", two=ONCE)
scenario_pivot = build("scenario_pivot", three={"pivot": True, "undo": False}, four={"undo": False})
scenario_careful = build("scenario_careful", two={"compensate_on_failure": True})
scenario_brief = build("scenario_brief", two={"timeout": 1}, three={"timeout": 1, "idempotent": False})
