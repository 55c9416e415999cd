"""Rules about what was written (P3, P8, P9, P14) and about why a saga ended as it did."""

from collections.abc import Iterator

from tests.chaos.facts import TERMINAL, Case, attempt_id
from tests.chaos.rules_effects import ENDED
from tests.harness.scenario import STEPS

ENDS = {
    "COMPLETED": "SagaCompleted",
    "COMPENSATED": "SagaCompensated",
    "CANCELLED": "SagaCancelled",
    "FAILED": "SagaFailed",
}
FOR_GOOD = ("fail", "raise", "cancel", "junk", "die", "half", "stall", "hang")


def p14_terminal_in_time(case: Case) -> Iterator[str]:
    """Every saga has ended; while one has not, it has a due time."""
    if case.state not in TERMINAL:
        yield f"{case.state} at the end of the run, wake_at {case.row['wake_at']}, paused: {case.row['pause_reason']}"


def p8_every_change_has_its_event(case: Case) -> Iterator[str]:
    """SagaStarted first, one end, one event for each step that was completed or undone."""
    types = [event["event_type"] for event in case.events]
    if case.is_child and "SagaCompleted" in types and "SagaCompensating" in types[types.index("SagaCompleted") :]:
        types.remove("SagaCompleted")  # its parent went back (P9)
    if types[:1] != ["SagaStarted"] or types.count("SagaStarted") != 1:
        yield f"SagaStarted is not the first event alone: {types[:3]}"
    ends = [kind for kind in types if kind in ENDS.values()]
    if case.state in ENDS and ends != [ENDS[case.state]]:
        yield f"{case.state} with the ends {ends}"
    for step, row in case.steps.items():
        completed = len(case.of("StepCompleted", step=step))
        if completed > 1 or (row["state"] == "COMPLETED" and completed != 1):
            yield f"step {step} is {row['state']} with {completed} x StepCompleted"
        if row["state"] == "COMPENSATED" and not case.of("StepCompensated", step=step):
            yield f"step {step} is COMPENSATED without its event"
    if case.rows("undo_begin") and types.count("SagaCompensating") != 1:
        yield f"{types.count('SagaCompensating')} x SagaCompensating"


def p8_every_attempt_has_its_end(case: Case) -> Iterator[str]:
    """What began has an event that says how it ended, also when it was lost."""
    for kind, ends in ENDED.items():
        for step in STEPS if case.state in TERMINAL else ():
            begun = {attempt_id(row) for row in case.rows(kind, step) if not case.vanished(row)}
            ended = len(case.of(*ends, step=step))
            if len(begun) > ended:
                yield f"{len(begun)} attempts of {step} have a {kind}, {ended} an event of their end"


def p9_terminal_is_terminal(case: Case) -> Iterator[str]:
    """After the end nothing is written but late effects, and nothing begins."""
    ends = case.of(*ENDS.values())[-1 if case.is_child else 0 :]  # a parent that goes back leaves a child's COMPLETED
    if not ends:
        return
    after = {e["event_type"] for e in case.events if e["event_id"] > ends[0]["event_id"]} - {"LateEffect"}
    if after:
        yield f"after {ends[0]['event_type']} came {sorted(after)}"
    for row in case.rows("begin") + case.rows("undo_begin"):
        if row.at > ends[0]["occurred_at"] and not case.is_late(row):
            yield f"{row.kind} {row.step} after {ends[0]['event_type']}"


def p3_the_fence_holds(case: Case) -> Iterator[str]:
    """The output that counts is that of the attempt that the engine says completed the step."""
    for event in case.of("StepCompleted"):
        output = case.steps[event["step_name"]]["output_data"] or {}
        late = case.of("LateEffect", step=event["step_name"])
        if not late and "attempt" in output and output["attempt"] != event["payload"]["attempt"]:
            told = f"attempt {event['payload']['attempt']} completed it, the output is of {output['attempt']}"
            if not case.of("StepUnknown", step=event["step_name"]):
                yield f"step {event['step_name']}: {told}"


def outcome_has_its_reason(case: Case) -> Iterator[str]:
    """A saga goes back only for its plan, a cancel, or attempts that were used up; it is FAILED only where it must."""
    error = case.row["error"] or {}
    if error.get("type") in ("ChildFailed", "ParentWentBack") or (case.is_child and case.state != "COMPLETED"):
        return  # judged with its family
    if case.state in ("COMPENSATED", "CANCELLED"):
        why = error.get("type")
        if why == "Cancelled" and str(case.row["saga_id"]) not in case.run.cancelled:
            yield "cancelled, and nobody asked for it"
        elif why == "DeadlineExceeded" and case.row["deadline"] is not None:
            return
        elif why not in ("Cancelled", "AttemptLost", "StepTimeLimit") and not _planned(case, ""):
            yield f"went back for {error}, which is not in its plan"
        elif why == "AttemptLost" and not case.of("AttemptLost"):
            yield "went back for lost attempts, and none was lost"
    elif case.state == "FAILED":
        lost = case.of("AttemptLost")
        stuck = _planned(case, "undo_") if case.row["failed_from"] == "undo" else _planned(case, "")
        stuck = stuck or (error.get("type") == "DeadlineExceeded" and case.row["deadline"] is not None)
        if case.row["failed_from"] == "forward" and not any(step["pivot"] for step in case.steps.values()):
            yield "FAILED forward, without a pivot"
        if not (stuck or lost):
            yield f"FAILED ({case.row['failed_from']}) for {error}, which is not in its plan"
        if case.row["failed_from"] == "undo" and not case.row["outstanding"]:
            yield "FAILED in an undo with nothing outstanding"
    if case.state == "COMPLETED" and any(
        case.actions.get(step) in ("fail", "raise", "cancel", "junk") for step in STEPS
    ):
        yield f"COMPLETED against its plan {case.actions}"


def _planned(case: Case, prefix: str) -> bool:
    words = [word for step in STEPS for word in case.actions.get(prefix + step, "ok").split("+")]
    # A flaky step with attempts lost on top may use up its three.
    return any(word.split(":")[0] in (*FOR_GOOD, "flaky") for word in words)


RULES = (
    p14_terminal_in_time,
    p8_every_change_has_its_event,
    p8_every_attempt_has_its_end,
    p9_terminal_is_terminal,
    p3_the_fence_holds,
    outcome_has_its_reason,
)
