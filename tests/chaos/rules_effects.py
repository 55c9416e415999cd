"""Rules about what steps really did (P3 to P7)."""

from collections import Counter
from collections.abc import Iterator
from datetime import timedelta
from itertools import pairwise

from tests.chaos.facts import Case, attempt_id
from tests.harness.effects import Effect
from tests.harness.scenario import STEPS

ENDED = {
    "begin": ("StepCompleted", "StepFailed", "StepRetryScheduled", "StepUnknown", "StepNotReady"),
    "undo_begin": ("StepCompensated", "CompensationFailed", "CompensationRetryScheduled", "CompensationNotReady"),
}
CLOCKS = timedelta(milliseconds=5)
"""Both servers read one clock, at the beginning and the end of a statement."""


def p2_no_effect_lost(case: Case) -> Iterator[str]:
    """A COMPLETED saga has the effect of every step, and nothing was undone."""
    if case.state != "COMPLETED":
        return
    for step in (name for name, row in case.steps.items() if not row["child"]):
        if not case.rows("effect", step):
            yield f"COMPLETED without the effect of step {step}"
        if case.rows("undo_begin", step):
            yield f"COMPLETED, and step {step} was undone"


def p3_one_claim_at_a_time(case: Case) -> Iterator[str]:
    """An attempt begins once, and after the one before it was recorded as ended."""
    for kind, ends in ENDED.items():
        for attempt, count in Counter(map(attempt_id, case.rows(kind))).items():
            if attempt and count > 1:
                yield f"attempt {attempt} began {count} times"
        for step in STEPS:
            rows = [row for row in case.rows(kind, step) if not case.is_late(row)]
            for before, after in pairwise(rows):
                ended = case.of(*ends, "AttemptLost", step=step)
                if not any(before.at - CLOCKS <= end["occurred_at"] <= after.at + CLOCKS for end in ended):
                    yield f"{kind} {step} #{after.attempt} while #{before.attempt} had not ended"


def p4_at_most_once(case: Case) -> Iterator[str]:
    """A step that is not idempotent is begun once, but for what said that nothing had happened."""
    for step, row in case.steps.items():
        if row["idempotent"]:
            continue
        excuses = len(case.of("StepNotReady", step=step))
        excuses += sum(e["payload"].get("answer") == "not done" for e in case.of("StepVerified", step=step))
        begins = len(case.rows("begin", step))
        if begins > 1 + excuses:
            yield f"step {step} is not idempotent and began {begins} times, with {excuses} reasons to"
        effects = [effect for effect in case.rows("effect", step) if not case.is_late(effect)]
        if len(effects) > 1:
            yield f"step {step} is not idempotent and acted {len(effects)} times"


def p4_attempts_are_counted(case: Case) -> Iterator[str]:
    """No step begins more often than its attempts (NotReady spends none; what came late arms an undo anew)."""
    for step, row in case.steps.items():
        vanished = sum(case.vanished(begin) for begin in case.rows("begin", step) + case.rows("undo_begin", step))
        late = len(case.of("LateEffect", step=step))
        most = row["max_attempts"] + len(case.of("StepNotReady", step=step)) + vanished
        if len(case.rows("begin", step)) > most:
            yield f"step {step} began {len(case.rows('begin', step))} times, at most {most} are its due"
        undos = row["undo_max_attempts"] * (1 + late) + len(case.of("CompensationNotReady", step=step)) + vanished
        if len(case.rows("undo_begin", step)) > undos:
            yield f"the undo of {step} began {len(case.rows('undo_begin', step))} times, at most {undos} are its due"


def p5_no_crossing(case: Case) -> Iterator[str]:
    """Once an undo has begun no step begins or acts, but for an attempt that was already taken for lost."""
    undos = case.rows("undo_begin")
    if not undos:
        return
    for row in case.rows("begin") + case.rows("effect"):
        lost = case.lost_at(row)
        excused = (lost is not None and lost <= undos[0].at) or case.vanished(row)
        if row.id > undos[0].id and not excused:
            yield f"{row.kind} {row.step} #{row.attempt} after undo_begin {undos[0].step}"


def p6_steps_in_order(case: Case) -> Iterator[str]:
    """A step begins after the one before it is completed."""
    for before, step in pairwise(STEPS):
        done = case.of("StepCompleted", step=before)
        for begin in case.rows("begin", step):
            if not done or begin.at + CLOCKS < done[0]["occurred_at"]:
                yield f"step {step} began before {before} was completed"
                break


def p6_undone_in_reverse(case: Case) -> Iterator[str]:
    """An undo begins when the effects of all later steps are undone."""
    for undo in case.rows("undo_begin"):
        if case.is_late(undo):
            continue
        for later in STEPS[STEPS.index(str(undo.step)) + 1 :]:
            if not case.steps[later]["has_compensation"]:
                continue
            acted = [e for e in case.rows("effect", later) if e.id < undo.id and not case.is_late(e)]
            if acted and not any(done.id < undo.id for done in case.rows("undo", later)):
                yield f"undo of {undo.step} began before {later} was undone"


def p6_undo_for_what_was_done(case: Case) -> Iterator[str]:
    """Only what may have happened is undone."""
    for step in dict.fromkeys(row.step for row in case.rows("undo_begin")):
        assert step is not None
        may_be = case.rows("effect", step) or case.of("AttemptLost", "StepUnknown", "LateEffect", step=step)
        timed_out = any(
            (e["payload"].get("error") or {}).get("type") in ("StepTimeLimit", "SoftTimeLimitExceeded")
            for e in case.of("StepRetryScheduled", "StepFailed", step=step)
        )
        if not (may_be or timed_out or case.steps[step]["compensate_on_failure"] or case.crashed()):
            yield f"step {step} was undone and cannot have acted"


def p7_nothing_left_in_the_dark(case: Case) -> Iterator[str]:
    """An effect that stands after a rollback is listed; only a process that died before its report is silent (R19)."""
    if case.state not in ("COMPENSATED", "CANCELLED", "FAILED"):
        return
    listed = {entry["step"] for entry in case.row["outstanding"]}
    for effect in case.rows("effect"):
        step = case.steps[str(effect.step)]
        if any(undo.id > effect.id for undo in case.rows("undo", effect.step)) or effect.step in listed:
            continue
        if case.state == "FAILED" and not step["has_compensation"]:
            continue
        if not (case.is_late(effect) and _died(case, effect)):
            yield f"{case.state} with the effect of {effect.step} #{effect.attempt} standing and not listed"


def p7_late_is_written_down(case: Case) -> Iterator[str]:
    """An attempt that acts after it was taken for lost, and lives to report, has its effect written down."""
    written = {e["payload"].get("attempt_id") for e in case.of("LateEffect")}
    for effect in case.rows("effect"):
        lost = case.lost_at(effect)
        begun = [row.at for row in case.rows("begin", effect.step) if attempt_id(row) == attempt_id(effect)]
        if lost is None or lost > effect.at or not begun or _died(case, effect) or attempt_id(effect) in written:
            continue
        # Struck by its time limit it reports an unknown outcome, which is what the engine has written already.
        in_time = (effect.at - begun[0]).total_seconds() < case.steps[str(effect.step)]["timeout_s"] - 1
        last = case.actions.get(str(effect.step), "ok").split(":")[0] in ("ok", "slow", "lock", "flaky", "notready")
        answered = case.of("StepUnknown", step=effect.step) and case.of("StepCompleted", step=effect.step)
        if in_time and last and not answered:
            yield f"effect {effect.step} #{effect.attempt} came after its attempt was lost, and nobody wrote it down"


def _died(case: Case, effect: Effect) -> bool:
    planned = case.actions.get(str(effect.step), "")
    return effect.pid in case.run.killed or "die" in planned or "stall" in planned


RULES = (
    p2_no_effect_lost,
    p3_one_claim_at_a_time,
    p4_at_most_once,
    p4_attempts_are_counted,
    p5_no_crossing,
    p6_steps_in_order,
    p6_undone_in_reverse,
    p6_undo_for_what_was_done,
    p7_nothing_left_in_the_dark,
    p7_late_is_written_down,
)
