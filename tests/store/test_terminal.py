"""Terminal is terminal: promise P9, L25. Every verb against every end."""

import uuid
from collections.abc import Callable

import pytest

from sagas import SagaState
from sagas.context import SagaContext
from sagas.types import TERMINAL
from tests.store.lab import Lab, Run

VERBS: dict[str, Callable[[Lab, Run, uuid.UUID], object]] = {
    "claim": lambda lab, run, old: [run.verdict(step, undo) for step in "ab" for undo in (False, True)],
    "claim again": lambda lab, run, old: run.verdict("a", attempt=old),
    "commit again": lambda lab, run, old: [
        run.commit("a", old, outcome) for outcome in ("done", "failed", "unknown", "not_ready", "cancel", "not_done")
    ],
    "commit of a stranger": lambda lab, run, old: run.commit("a", uuid.uuid4(), "failed"),
    "take over": lambda lab, run, old: lab.store.take_over(run.saga_id, "a", old, "x"),
    "prepare undo": lambda lab, run, old: lab.store.prepare_undo(run.saga_id, "a", old, {"n": 1}),
    "cancel": lambda lab, run, old: run.cancel(),
    "hint": lambda lab, run, old: lab.store.hint(run.saga_id),
    "reconcile much later": lambda lab, run, old: [
        lab.sql("UPDATE test_clock SET at = at + interval '3 h'"),
        lab.reconcile(),
    ],
    "reconcile after a crash": lambda lab, run, old: (lab.sql("DELETE FROM engine_epoch"), lab.reconcile()),
    "start again": lambda lab, run, old: lab.start(str(run.row()["saga_type"]), idempotency_key="k"),
    "save": lambda lab, run, old: lab.repository.save(SagaContext(run.saga_id, str(run.row()["saga_type"]))),
}


def ended(lab: Lab, end: str) -> tuple[Run, uuid.UUID]:
    """A saga at that end, and the id of the last attempt of its step a."""
    name = f"saga{uuid.uuid4().hex[:8]}"
    lab.define(name, timeout=60.0, a={}, b={})
    run = lab.start(name, idempotency_key="k")
    attempt = run.claim("a")
    run.commit("a", attempt)
    if end == "COMPLETED":
        run.do("b")
    elif end == "CANCELLED":
        run.cancel()
        attempt = run.claim("a", undo=True)
        run.commit("a", attempt)
    else:
        run.do("b", outcome="failed")
        attempt = run.claim("a", undo=True)
        run.commit("a", attempt, "done" if end == "COMPENSATED" else "failed")
    assert run.state == end
    return run, attempt


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("end", sorted(TERMINAL))
def test_no_message_changes_an_end(lab: Lab, end: str, verb: str) -> None:
    """P9, L25: not one column of it, and no event."""
    run, attempt = ended(lab, end)
    before = run.dump()

    VERBS[verb](lab, run, attempt)

    assert run.dump() == before


@pytest.mark.parametrize("end", sorted(TERMINAL))
def test_an_end_waits_for_nothing(lab: Lab, end: str) -> None:
    """P14: no due time, no claim; when it ended is on record."""
    row = ended(lab, end)[0].row()

    assert (row["wake_at"], row["live_claims"], row["pivot_open"]) == (None, 0, False)
    assert row["completed_at"] is not None


@pytest.mark.parametrize("state", [state for state in SagaState if state not in TERMINAL])
def test_the_database_refuses_an_active_saga_out_of_sight(lab: Lab, state: str) -> None:
    """R6, P14: CHECK (terminal or wake_at is not null)."""
    run = lab.run(a={})
    with pytest.raises(Exception, match="saga_instances_wake"):
        lab.sql("UPDATE saga_instances SET state = %s, wake_at = NULL WHERE saga_id = %s", state, str(run.saga_id))


@pytest.mark.parametrize(
    ("change", "check"),
    [
        ("UPDATE saga_instances SET state = 'RUNNING'", "saga_state_known"),
        ("UPDATE saga_instances SET live_claims = -1", "saga_instances_wake"),
        ("UPDATE saga_instances SET completed_at = saga_now()", "saga_instances_wake"),
        ("UPDATE saga_instances SET end_as = 'COMPLETED'", "saga_end_known"),
        ("UPDATE saga_instances SET failed_from = 'verify'", "saga_direction_known"),
        ("UPDATE saga_steps SET state = 'DONE'", "saga_step_state_known"),
        ("UPDATE saga_steps SET phase = 'sideways'", "saga_step_phase_known"),
        ("UPDATE saga_steps SET lease_until = saga_now()", "saga_steps_lease"),
        ("UPDATE saga_instances SET live_claims = 2", "saga_instances_wake"),
        ("UPDATE saga_steps SET step_order = 7", "uq_saga_steps_order"),
        ("UPDATE saga_steps SET step_name = 'same'", "uq_saga_steps_name"),
        ("DELETE FROM saga_instances", "saga_steps_saga_id_fkey"),
        ("INSERT INTO engine_epoch VALUES (false, saga_now())", "engine_epoch_one"),
    ],
)
def test_the_schema_states_the_machine(lab: Lab, change: str, check: str) -> None:
    """Design 7, L20: the states are CHECKed, the invariants are unique indexes, foreign keys RESTRICT."""
    lab.run(a={}, b={})
    with pytest.raises(Exception, match=check):
        lab.sql(change)
