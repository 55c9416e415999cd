"""The seed's US-1.1, and both state machines edge by edge (design 5, PROTOCOL "edges")."""

import itertools
import time
import uuid

import pytest

from sagas import DefinitionError, SagaContext, SagaId, SagaState, SagaStep, SagaStepId, SagaType, StepState
from sagas.types import RESERVED_SAGAS, TERMINAL, check_name


def test_saga_id_is_a_valid_uuid() -> None:
    """US-1.1: saga_id_should_be_valid_uuid."""
    saga_id = SagaId.new()

    assert isinstance(saga_id, uuid.UUID)
    assert saga_id.variant == uuid.RFC_4122
    assert saga_id.version == 7
    assert SagaId.new() != saga_id


def test_ids_are_in_the_order_of_their_making() -> None:
    """RFC 9562, 5.7: milliseconds first. What is new lies together in an index."""
    before = time.time_ns() // 1_000_000
    ids = []
    for _ in range(20):
        ids.append(SagaId.new())
        time.sleep(0.002)
    assert ids == sorted(ids)
    assert before <= ids[0].int >> 80 <= ids[-1].int >> 80 <= time.time_ns() // 1_000_000
    assert len({one.int & (1 << 62) - 1 for one in ids}) == 20


def test_a_saga_id_takes_what_names_it() -> None:
    """A str is accepted everywhere, and so is a UUID; they are equal, also as keys."""
    text = "0b9f5a5e-6a4c-4d2b-9f59-6a0c7f3c1d11"

    assert SagaId(text) == SagaId(uuid.UUID(text)) == uuid.UUID(text)
    assert str(SagaId(text.upper())) == text
    assert {SagaId(text): 1}[SagaId(text)] == 1
    with pytest.raises(ValueError, match="badly formed"):
        SagaId("order-42")


def test_a_step_id_is_a_type_of_its_own() -> None:
    """L11: ids are distinct types, checked by the type checker."""
    assert isinstance(SagaStepId.new(), SagaStepId)
    assert not isinstance(SagaId.new(), SagaStepId)


@pytest.mark.parametrize("name", ["provisioning", "execution", "recovery"])
def test_saga_type_has_its_variants(name: str) -> None:
    """US-1.1: saga_type_should_have_..._variant."""
    assert str(SagaType[name.upper()]) == name
    assert SagaType(name) == name


def test_saga_state_transitions_are_valid() -> None:
    """US-1.1: saga_state_transitions_should_be_valid."""
    state = SagaState.PENDING

    assert state.can_transition_to(SagaState.IN_PROGRESS)
    assert not state.can_transition_to(SagaState.PENDING)
    assert not state.can_transition_to(SagaState.COMPLETED)


def test_a_step_class_needs_execute_and_a_name() -> None:
    """US-1.1: saga_step_trait_should_require_execute_method."""

    class Named:
        name = "test"
        is_idempotent = True

        def execute(self, ctx: SagaContext) -> None: ...

        def compensate(self, ctx: SagaContext) -> None: ...

    class Idle:
        name = "test"

    step: SagaStep = Named()
    assert step.name == "test"
    assert isinstance(step, SagaStep)
    assert not isinstance(Idle(), SagaStep)


def test_saga_context_stores_correlation_id() -> None:
    """US-1.1: saga_context_should_store_correlation_id; criterion 5: all of its fields."""
    saga_id = SagaId.new()
    context = SagaContext(saga_id, SagaType.PROVISIONING, "correlation-123", "actor-456")

    assert (context.saga_id, context.saga_type) == (saga_id, SagaType.PROVISIONING)
    assert (context.correlation_id, context.actor) == ("correlation-123", "actor-456")
    assert context.metadata == {}
    assert context.started_at.tzinfo is not None


SAGA_EDGES = """
PENDING: IN_PROGRESS CANCELLED
IN_PROGRESS: COMPLETED COMPENSATING FAILED
COMPENSATING: COMPENSATED CANCELLED FAILED
COMPLETED: COMPENSATING
COMPENSATED:
CANCELLED:
FAILED: COMPENSATING IN_PROGRESS
"""
STEP_EDGES = """
PENDING: IN_PROGRESS SKIPPED COMPENSATING
IN_PROGRESS: COMPLETED FAILED UNKNOWN WAITING PENDING
WAITING: IN_PROGRESS COMPLETED FAILED COMPENSATING SKIPPED
UNKNOWN: COMPLETED PENDING COMPENSATING FAILED
COMPLETED: COMPENSATING
FAILED: COMPENSATING PENDING SKIPPED
COMPENSATING: COMPENSATED FAILED
COMPENSATED: COMPENSATING
SKIPPED:
"""


def edges(text: str) -> dict[str, set[str]]:
    return {line.split(":")[0]: set(line.split(":")[1].split()) for line in text.strip().splitlines()}


@pytest.mark.parametrize(("one", "other"), list(itertools.product(SagaState, SagaState)), ids=str)
def test_every_edge_of_a_saga(one: SagaState, other: SagaState) -> None:
    """Design 5: no self-loops, nothing else."""
    assert one.can_transition_to(other) == (other in edges(SAGA_EDGES)[one])


@pytest.mark.parametrize("one", StepState)
def test_every_edge_of_a_step(one: StepState) -> None:
    """Design 5 and the edges that PROTOCOL spells out."""
    assert {other for other in StepState if one.can_transition_to(other)} == edges(STEP_EDGES)[one]
    assert not one.can_transition_to(one)


def test_the_terminal_states() -> None:
    """P9."""
    assert {state for state in SagaState if state.is_terminal} == TERMINAL
    assert {"COMPLETED", "COMPENSATED", "CANCELLED", "FAILED"} == TERMINAL


def test_every_active_state_leads_to_an_end() -> None:
    """P1: no state without a way out."""
    for state in SagaState:
        seen, front = {state}, {state}
        while front:
            front = {other for one in front for other in SagaState if one.can_transition_to(other)} - seen
            seen |= front
        assert seen & TERMINAL


@pytest.mark.parametrize("name", ["a", "A1", "order", "reserve_stock", "CreateInfrastructure", "x" * 60])
def test_good_names(name: str) -> None:
    assert check_name("saga", name, RESERVED_SAGAS) == name


@pytest.mark.parametrize(
    "name",
    ["", "1a", "_a", "a-b", "a.b", "a b", "ä", "a\n", "x" * 61, "sagas", "workers", "jobs", "celery", "hodei", 7],
)
def test_bad_names_are_refused_in_one_line(name: str) -> None:
    """Section 4: [A-Za-z][A-Za-z0-9_]*, at most 60, and the reserved ones."""
    with pytest.raises(DefinitionError, match="saga name") as caught:
        check_name("saga", name, RESERVED_SAGAS)
    assert "\n" not in str(caught.value)
