"""Rules about a saga and the saga that is one of its steps (R10, P6, P9)."""

from collections.abc import Iterator

from tests.chaos.facts import TERMINAL, Case

LATER = ("three", "four")
BEFORE = "one"


def families(cases: list[Case]) -> Iterator[tuple[Case, list[Case]]]:
    """Each parent with its children."""
    for parent in cases:
        if any(step["child"] for step in parent.steps.values()):
            yield parent, [case for case in cases if case.row["parent_saga_id"] == parent.row["saga_id"]]


def one_child(parent: Case, kids: list[Case]) -> Iterator[str]:
    """P3, P11: whatever was lost or doubled, and nobody has retried it."""
    if len(kids) > 1:
        yield f"it has {len(kids)} children"


def they_end_together(parent: Case, kids: list[Case]) -> Iterator[str]:
    """R10, P6: a child stands exactly if its parent does; one that could not be undone is said above, too."""
    states = {kid.state for kid in kids}
    allowed = {
        "COMPLETED": {"COMPLETED"},
        "COMPENSATED": {"COMPENSATED", "CANCELLED"},
        "CANCELLED": {"COMPENSATED", "CANCELLED"},
        "FAILED": set(TERMINAL),
    }
    if parent.state in allowed and not states <= allowed[parent.state]:
        yield f"{parent.state} with a child that is {states}"
    if parent.state == "COMPLETED" and not kids:
        yield "COMPLETED without its child"
    if parent.steps["two"]["state"] == "COMPENSATED" and "COMPLETED" in states:
        yield "the step is COMPENSATED and its child COMPLETED"
    if "FAILED" in states and parent.state != "FAILED":
        yield f"its child is FAILED and it is {parent.state}"


def the_child_lives_between_its_neighbours(parent: Case, kids: list[Case]) -> Iterator[str]:
    """P5, P6: what follows begins after the child's end, and is undone before the child is; what precedes it, after."""
    for kid in kids:
        done = kid.of("SagaCompleted")
        for row in parent.rows("begin", "three"):
            if not done or row.at < done[0]["occurred_at"]:
                yield "step three began before the child was COMPLETED"
        undone = [row for row in kid.rows("undo_begin") if not kid.is_late(row)]
        for later in LATER if done and undone else ():
            acted = [row for row in parent.rows("effect", later) if not parent.is_late(row) and row.id < undone[0].id]
            if acted and not any(row.id < undone[0].id for row in parent.rows("undo", later)):
                yield f"the child went back before {later} was undone"
        for undo in parent.rows("undo_begin", BEFORE):
            effects = [row for row in kid.rows("effect") if row.id < undo.id and not kid.is_late(row)]
            standing = [row.step for row in effects if not any(u.id < undo.id for u in kid.rows("undo", row.step))]
            if standing and not parent.is_late(undo):
                yield f"{BEFORE} was undone with {standing} of the child standing"


RULES = (one_child, they_end_together, the_child_lives_between_its_neighbours)
