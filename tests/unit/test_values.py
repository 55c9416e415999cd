"""Values that cross the border to the store: JSON and errors."""

import json
import math
from dataclasses import FrozenInstanceError
from typing import Any

import psycopg2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sagas import DomainEvent, HodeiError, SagaId, SagaResult, SagaState, SagaTimeout, StepState
from sagas import errors as all_errors
from sagas.jsontext import to_json
from sagas.results import SagaStepData
from sagas.store.repository import error_text
from sagas.store.wire import translate
from sagas.types import SagaStepId

TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"))
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=8,
)


@given(JSON)
def test_json_comes_back_as_it_was(value: Any) -> None:
    """P12: all that JSON can hold is taken."""
    assert json.loads(to_json(value)) == value


@given(st.text())
def test_only_what_postgresql_cannot_hold_is_refused(text: str) -> None:
    """P12: NUL and halves of surrogate pairs, and nothing that only looks like them."""
    bad = "\x00" in text or any(0xD800 <= ord(character) <= 0xDFFF for character in text)
    for value in (text, {text: 1}, ["\\" + text + "\\"]):
        if bad:
            with pytest.raises(ValueError, match="PostgreSQL cannot store"):
                to_json(value)
        else:
            assert json.loads(to_json(value)) == value


@pytest.mark.parametrize("value", [object(), {1, 2}, b"x", SagaId.new(), {(1, 2): 3}], ids=lambda v: type(v).__name__)
def test_what_is_not_json_is_a_type_error(value: object) -> None:
    with pytest.raises(TypeError):
        to_json(value)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, [math.nan]], ids=str)
def test_numbers_that_are_none_are_refused(value: object) -> None:
    with pytest.raises(ValueError, match="JSON"):
        to_json(value)


@pytest.mark.parametrize(
    ("error", "name"),
    [
        (psycopg2.OperationalError("server closed the connection\n\tunexpectedly"), "StorageUnavailable"),
        (psycopg2.InterfaceError("connection already closed"), "StorageUnavailable"),
        (psycopg2.errors.LockNotAvailable("canceling statement due to lock timeout"), "StorageUnavailable"),
        (psycopg2.errors.AdminShutdown("terminating connection"), "StorageUnavailable"),
        (psycopg2.errors.UniqueViolation("duplicate key"), "UniqueViolation"),
    ],
    ids=repr,
)
def test_trouble_is_told_from_errors(error: psycopg2.Error, name: str) -> None:
    """Section 6.8: infrastructure trouble is not an outcome; what is neither stays as it is."""
    found = translate(error)

    assert type(found).__name__ == name
    if name == "StorageUnavailable":
        assert "\n" not in str(found)


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (None, None),
        ({}, None),
        ({"type": "ValueError", "message": "no"}, "ValueError: no"),
        ({"type": "ValueError", "message": ""}, "ValueError"),
        ({"message": "no"}, "no"),
    ],
    ids=str,
)
def test_an_error_as_text(error: dict[str, str] | None, text: str | None) -> None:
    assert error_text(error) == text


def test_results_are_values() -> None:
    """They compare and do not change."""
    saga_id = SagaId.new()
    one, other = (SagaResult(saga_id, SagaState.COMPLETED, 1, 0, {}) for _ in range(2))

    assert one == other
    with pytest.raises(FrozenInstanceError):
        one.outcome = SagaState.FAILED  # type: ignore[misc]
    step = SagaStepData(SagaStepId.new(), saga_id, "a", 0)
    assert (step.state, step.attempt, step.effect_possible) == (StepState.PENDING, 0, False)
    assert DomainEvent("X", "job:1").payload == {}


def test_states_are_their_names() -> None:
    """Stored as such, in upper case."""
    for state in (*SagaState, *StepState):
        assert state == state.name
        assert state.upper() == state


def test_errors_for_users_have_one_root() -> None:
    """One `except` catches them; what a step raises is not among them."""
    users = [value for value in vars(all_errors).values() if isinstance(value, type) and issubclass(value, HodeiError)]

    assert len(users) > 8
    assert issubclass(SagaTimeout, TimeoutError)
    for name in ("PermanentError", "NotReady", "CancelSaga", "StepTimeLimit"):
        assert not issubclass(getattr(all_errors, name), HodeiError)
