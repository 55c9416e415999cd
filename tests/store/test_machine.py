"""Random lives of a saga on the real store, checked after each event against P3, P5, P6, P9 and P14.

`HODEI_TEST_LIVES=2000` runs more of them than the suite does.
"""

import os
import uuid
from dataclasses import dataclass, field
from typing import Any

from hypothesis import HealthCheck, Phase, note, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from sagas.types import TERMINAL
from tests.store.invariants import check
from tests.store.lab import ASKED, LEASE, ONCE, Lab, Run

LIVES = int(os.environ.get("HODEI_TEST_LIVES", "60"))
KINDS: dict[str, dict[str, Any]] = {
    "plain": {},
    "no_undo": {"undo": False},
    "once": ONCE,
    "asked": ASKED,
    "careful": {"compensate_on_failure": True},
    "pivot": {"pivot": True, "undo": False},
    "pivot_asked": {"pivot": True, "undo": False, **ASKED},
}
PAUSES = st.sampled_from([None, 0.0, 1.0, 25.0])
STEPS = ("a", "b", "c")


@dataclass
class Attempt:
    """One attempt as its worker sees it."""

    step: str
    phase: str
    id: uuid.UUID = field(default_factory=uuid.uuid4)
    reported: str | None = None


class Life(RuleBasedStateMachine):
    """One saga, whatever may happen to it, and the world outside with the effects of its steps."""

    lab: Lab

    @initialize(
        kinds=st.tuples(*[st.sampled_from(sorted(KINDS))] * 3).filter(lambda k: sum("pivot" in kind for kind in k) < 2),
        attempts=st.integers(1, 2),
        timeout=st.sampled_from([None, 90.0]),
    )
    def start(self, kinds: tuple[str, ...], attempts: int, timeout: float | None) -> None:
        # Whatever the life before has left: each begins in the same world, or it could not be told again.
        self.lab.sql("INSERT INTO engine_epoch (since) SELECT saga_now() ON CONFLICT DO NOTHING")
        self.kinds = dict(zip(STEPS, kinds, strict=True))
        name = "_".join([*kinds, str(attempts), "hurried" if timeout else "calm"])
        steps: dict[str, Any] = {step: {**KINDS[kind], "attempts": attempts} for step, kind in self.kinds.items()}
        self.lab.define(name, timeout, **steps)
        self.run = self.lab.start(name)
        self.live: Attempt | None = None
        self.old: list[Attempt] = []
        self.effects: dict[str, int] = dict.fromkeys(STEPS, 0)
        self.end: list[Any] | None = None

    @rule(step=st.sampled_from(STEPS), undo=st.booleans(), acts=st.booleans())
    def claim(self, step: str, undo: bool, acts: bool) -> None:
        """A message of any step arrives, in order or not."""
        self.attempt(step, undo, acts)

    def attempt(self, step: str, undo: bool, acts: bool) -> None:
        attempt = Attempt(step, "")
        before = self.run.row()
        answer = self.run.ask(step, undo, attempt.id)
        if answer["verdict"] != "granted":
            return
        assert self.live is None, "P3: two live claims"
        assert undo == (before["state"] == "COMPENSATING"), "P5"
        attempt.phase = answer["phase"]
        self.live = attempt
        if attempt.phase == "forward" and acts:
            self.effects[step] += 1

    @rule(acts=st.booleans())
    def deliver(self, acts: bool) -> None:
        """The right message arrives: lives get somewhere."""
        row = self.run.row()
        if row["state"] == "COMPENSATING":
            step = self.lab.sql("SELECT step_name FROM saga_next_undo(%s)", str(self.run.saga_id))[0]["step_name"]
        else:
            step = STEPS[min(row["current_step"], 2)]
        if step:
            self.attempt(step, row["state"] == "COMPENSATING", acts)

    @precondition(lambda self: self.live)
    @rule()
    def claim_again(self) -> None:
        """The reply to the claim was lost."""
        assert self.live
        assert self.run.verdict(self.live.step, self.live.phase == "undo", self.live.id) == "granted"

    @precondition(lambda self: self.live)
    @rule(word=st.sampled_from(["done", "done", "failed", "unknown", "not_ready", "cancel"]), pause=PAUSES)
    def report(self, word: str, pause: float | None) -> None:
        """The live attempt ends; its worker tells the truth."""
        attempt = self.live
        assert attempt
        word = self.truth(attempt, word)
        answer = self.run.commit(attempt.step, attempt.id, word, retry_in=pause)
        assert answer["verdict"] == "committed", answer
        attempt.reported, self.live = word, None
        self.old.append(attempt)

    def truth(self, attempt: Attempt, word: str) -> str:
        """What the word means for the world, or the word that the world allows."""
        step = attempt.step
        if attempt.phase == "undo":
            if word == "done":
                self.effects[step] = 0
            return word
        if attempt.phase == "verify":
            return "failed" if word != "done" else "done" if self.effects[step] else "not_done"
        if word == "done":
            self.effects[step] = self.effects[step] or 1
        elif word in ("failed", "not_ready", "cancel") and self.kinds[step] != "careful":
            # The author's word that nothing happened in this attempt: whoever acted may not give it.
            word = word if self.run.step(step)["effect_possible"] or not self.effects[step] else "unknown"
        return word

    @precondition(lambda self: self.live)
    @rule(written=st.booleans())
    def vanish(self, written: bool) -> None:
        """The worker dies, or is paused; its lease runs out, and somebody notices or not."""
        assert self.live
        self.lab.advance(LEASE + 1)
        if written:
            self.lab.reconcile()

    @precondition(lambda self: self.live)
    @rule()
    def prove_dead(self) -> None:
        """Its process is gone."""
        assert self.live
        self.lab.store.take_over(self.run.saga_id, self.live.step, self.live.id, "gone")

    @precondition(lambda self: self.old)
    @rule(data=st.data())
    def report_late(self, data: st.DataObject) -> None:
        """An attempt that was taken for lost comes back, or one that has reported repeats itself."""
        attempt = data.draw(st.sampled_from(self.old))
        if attempt.reported is None and attempt.phase == "forward":
            self.effects[attempt.step] = self.effects[attempt.step] or 1
        word = attempt.reported or "done"
        answer = self.run.commit(attempt.step, attempt.id, word)
        if attempt.reported:
            assert answer["verdict"] in ("recorded", "late"), answer
        attempt.reported = word

    @rule(seconds=st.sampled_from([0.5, 3.0, 26.0]))
    def time_passes(self, seconds: float) -> None:
        self.lab.advance(seconds)

    @rule()
    def cancel(self) -> None:
        self.run.cancel()

    @rule()
    def reconcile(self) -> None:
        self.lab.reconcile()

    @rule()
    def hint(self) -> None:
        self.lab.store.hint(self.run.saga_id)

    @rule()
    def crash(self) -> None:
        """PostgreSQL comes back from a crash in which no claim was lost."""
        self.lab.sql("DELETE FROM engine_epoch")

    @invariant()
    def keeps_its_promises(self) -> None:
        if not hasattr(self, "run"):
            return
        check(self.lab, self.run.saga_id)
        if self.live:
            step = self.run.step(self.live.step)
            # Taken over; or a verify whose claim has ended because the lost attempt answered while it asked (R19).
            if step["attempt_id"] != self.live.id or step["lease_until"] is None:
                self.old.append(self.live)
                self.live = None
        if self.run.state in TERMINAL:
            row = {key: value for key, value in self.run.row().items() if key != "outstanding"}
            steps = self.run.dump()[1]
            assert self.end in (None, [row, steps]), "P9: an end has changed"
            self.end = [row, steps]

    def teardown(self) -> None:
        """P1: whatever has happened, it can be driven to its end, and then nothing is forgotten."""
        if not hasattr(self, "run"):
            return
        for _ in range(60):
            if self.run.state in TERMINAL:
                break
            self.lab.advance(LEASE + 1)
            for found in self.lab.reconcile():
                if found["saga_id"] == str(self.run.saga_id):
                    self.drive(found["route"][0]["step"], found["undo"])
            self.keeps_its_promises()
        note(f"{self.run.state} {self.run.states()} {self.effects}")
        assert self.run.state in TERMINAL, "P1: it does not end"
        self.nothing_is_forgotten()
        undone_in_reverse(self.run)

    def drive(self, step: str, undo: bool) -> None:
        """A worker that does what it is told."""
        attempt = Attempt(step, "")
        answer = self.run.ask(step, undo, attempt.id)
        if answer["verdict"] == "granted":
            attempt.phase, self.live = answer["phase"], attempt
            self.report("done", None)

    def nothing_is_forgotten(self) -> None:
        """P6, P7: an effect is there because the saga is COMPLETED, or it is undone, or it is listed."""
        if self.run.state == "COMPLETED":
            return
        listed = {entry["step"] for entry in self.run.row()["outstanding"]}
        for step, count in self.effects.items():
            if count and self.run.step(step)["has_compensation"]:
                assert step in listed, f"the effect of {step} is there, and nobody knows"


def undone_in_reverse(run: Run) -> None:
    """P6: completed steps are undone in the reverse order of completion (those that came late apart)."""
    events = [(event["event_type"], event["step_name"]) for event in run.events()]
    late = {step for kind, step in events if kind == "LateEffect"}
    undone = [step for kind, step in events if kind == "StepCompensated" and step not in late]
    done = [step for kind, step in events if kind == "StepCompleted" and step in undone]
    assert [step for step in undone if step in done] == done[::-1], events


def test_whatever_happens_the_promises_hold(lab: Lab) -> None:
    """P3, P5, P6, P9, P14, and P1 at the end (habit 14)."""
    machine = type("LifeHere", (Life,), {"lab": lab})
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=LIVES,
            stateful_step_count=25,
            deadline=None,
            suppress_health_check=list(HealthCheck),
            # In the suite always the same lives; with HODEI_TEST_LIVES other ones each time.
            derandomize="HODEI_TEST_LIVES" not in os.environ,
            database=None,
            phases=[Phase.explicit, Phase.generate, Phase.shrink],
        ),
    )
