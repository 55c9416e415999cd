"""When a failed attempt is tried again, and what each end of the author's code means (R2)."""

import traceback
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sagas import CancelSaga, DefinitionError, NotReady, PermanentError, RetryPolicy, Saga, SagaContext, SagaId
from sagas.errors import StepTimeLimit
from sagas.runtime.outcomes import Outcome, authors_part, execute


@given(
    attempt=st.integers(1, 10_000),
    backoff=st.floats(0, 100),
    factor=st.floats(0, 10),
    most=st.floats(0, 1000),
    jitter=st.floats(0, 1),
)
def test_a_pause_is_never_negative_nor_above_its_limit(
    attempt: int, backoff: float, factor: float, most: float, jitter: float
) -> None:
    """L55: with a cap, however often it is tried."""
    policy = RetryPolicy(backoff=backoff, factor=factor, max_backoff=most, jitter=jitter)

    assert 0 <= policy.delay(attempt) <= most * (1 + jitter) + 1e-6


def test_pauses_grow_by_the_factor_until_the_cap() -> None:
    policy = RetryPolicy(backoff=1, factor=2, max_backoff=10, jitter=0)

    assert [policy.delay(attempt) for attempt in range(1, 7)] == [1, 2, 4, 8, 10, 10]


def test_jitter_spreads() -> None:
    policy = RetryPolicy(backoff=10, jitter=0.5)
    pauses = {policy.delay(1) for _ in range(50)}

    assert len(pauses) > 10
    assert min(pauses) >= 5
    assert max(pauses) <= 15


@pytest.mark.parametrize("fields", [{"max_attempts": 0}, {"backoff": -1}, {"factor": -1}, {"jitter": -0.1}], ids=str)
def test_nonsense_is_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(DefinitionError):
        RetryPolicy(**fields)


@pytest.mark.parametrize(
    ("policy", "error", "expected"),
    [
        (RetryPolicy(), ValueError(), False),
        (RetryPolicy(), PermanentError(), True),
        (RetryPolicy(give_up_on=(KeyError,)), KeyError(), True),
        (RetryPolicy(give_up_on=(LookupError,)), KeyError(), True),
        (RetryPolicy(retry_on=(OSError,)), ValueError(), True),
        (RetryPolicy(retry_on=(OSError,)), TimeoutError(), False),
        (RetryPolicy(retry_on=(OSError,), give_up_on=(TimeoutError,)), TimeoutError(), True),
        (RetryPolicy(retry_on=(PermanentError,)), PermanentError(), True),
    ],
)
def test_which_exceptions_end_the_attempts(policy: RetryPolicy, error: Exception, expected: bool) -> None:
    """L74: retry_on and give_up_on are read."""
    assert policy.gives_up_on(error) is expected


def outcome(raised: BaseException | None, phase: str = "forward", output: Any = None, **options: Any) -> Outcome:
    """What the engine makes of a step that ends this way."""

    def body(ctx: SagaContext) -> Any:
        if raised:
            raise raised
        return output

    step = Saga("order").step(name="a", **options)(body)
    step.compensation(body)
    step.verify(body)
    return execute(step, SagaContext(SagaId.new(), "order", step="a"), {"phase": phase, "timeout_s": 30.0})


NAMED = RetryPolicy(retry_on=(OSError,), jitter=0)


@pytest.mark.parametrize(
    ("raised", "idempotent", "kind", "again"),
    [
        (ValueError(), True, "failed", True),
        (PermanentError(), True, "failed", False),
        (StepTimeLimit(), True, "unknown", True),
        (NotReady(retry_in=3), True, "not_ready", True),
        (CancelSaga(), True, "cancel", False),
        (MemoryError(), True, "failed", True),
        (ValueError(), False, "unknown", False),
        (TimeoutError(), False, "unknown", False),
        (PermanentError(), False, "failed", False),
        (NotReady(retry_in=3), False, "not_ready", True),
        (StepTimeLimit(), False, "unknown", True),
    ],
    ids=repr,
)
def test_failed_or_unknown(raised: BaseException, idempotent: bool, kind: str, again: bool) -> None:
    """R2: an idempotent step knows that it failed; another one only by PermanentError, NotReady and retry_on."""
    found = outcome(raised, idempotent=idempotent)

    assert (found.kind, found.retry_in is not None) == (kind, again)
    assert found.error is raised


@pytest.mark.parametrize(("raised", "kind"), [(ConnectionError(), "failed"), (ValueError(), "unknown")], ids=repr)
def test_the_author_s_word_that_nothing_happened(raised: Exception, kind: str) -> None:
    """R2 (trace): the client library times out and raises: that is not the author's word."""
    assert outcome(raised, idempotent=False, retry=NAMED).kind == kind


@pytest.mark.parametrize(
    ("raised", "output", "kind"),
    [
        (None, {"charge": 1}, "done"),
        (None, {}, "done"),
        (None, None, "not_done"),
        (None, True, "failed"),
        (None, "yes", "failed"),
        (ValueError(), None, "failed"),
        (PermanentError(), None, "failed"),
        (StepTimeLimit(), None, "unknown"),
    ],
)
def test_what_a_verify_says(raised: BaseException | None, output: Any, kind: str) -> None:
    """R14: any dict is done, None is not done, a raise (or any other answer) is still unknown."""
    found = outcome(raised, "verify", output, idempotent=False)

    assert found.kind == kind
    assert found.output == (output if kind == "done" else None)


@pytest.mark.parametrize(
    ("raised", "kind", "again"),
    [
        (None, "done", False),
        (ValueError(), "failed", True),
        (PermanentError(), "failed", False),
        (CancelSaga(), "failed", False),
        (NotReady(), "not_ready", True),
        (StepTimeLimit(), "unknown", True),
    ],
    ids=repr,
)
def test_how_an_undo_ends(raised: BaseException | None, kind: str, again: bool) -> None:
    """R18: an undo is tried again whatever it raised, also that of a non-idempotent step."""
    found = outcome(raised, "undo", output={"ignored": 1}, idempotent=False)

    assert (found.kind, found.retry_in is not None, found.output) == (kind, again, None)


def test_an_undo_is_paced_by_its_own_policy() -> None:
    """Section 4: a compensation's default is 10 attempts, at most 300 s apart."""
    step = Saga("order").step(name="a", retry=RetryPolicy(backoff=50))(lambda ctx: None)

    assert (step.undo_retry.max_attempts, step.undo_retry.max_backoff) == (10, 300.0)


def test_a_time_limit_cannot_be_swallowed() -> None:
    """R2: `except Exception` in a step does not turn a time limit into a success."""
    assert not issubclass(StepTimeLimit, Exception)


def test_a_time_limit_strikes_inside_the_step() -> None:
    """R12: its own timer, for each step."""

    def slow(ctx: SagaContext) -> str:
        try:
            while True:
                pass
        except Exception:  # noqa: BLE001 - what a careless author writes
            return "finished"

    step = Saga("order").step(name="a")(slow)
    found = execute(step, SagaContext(SagaId.new(), "order"), {"phase": "forward", "timeout_s": 0.1})

    assert found.kind == "unknown"


@pytest.mark.parametrize("text", ["plain", "nul \x00 here", "half \ud800", "x" * 5000])
def test_an_error_can_always_be_stored(text: str) -> None:
    """L23: whatever its text is."""
    stored = Outcome("failed", error=ValueError(text)).stored_error()

    assert stored is not None
    assert stored["type"] == "ValueError"
    assert len(stored["message"]) <= 2000
    assert "\x00" not in stored["message"]
    stored["message"].encode()


@pytest.mark.parametrize("phase", ["forward", "undo", "verify"])
def test_a_traceback_begins_where_the_authors_code_does(phase: str) -> None:
    """Celery copies, formats and logs each frame; those of the engine tell a user nothing."""
    error = outcome(PermanentError("no"), phase).error
    assert error is not None
    assert [frame.name for frame in traceback.extract_tb(authors_part(error.__traceback__))] == ["body"]


def test_a_traceback_without_a_frame_of_the_authors_stays() -> None:
    step = Saga("order").step(name="a")(lambda: None)
    error = execute(step, SagaContext(SagaId.new(), "order"), {"phase": "forward", "timeout_s": 30.0}).error
    assert isinstance(error, TypeError)
    assert error.__traceback__ is not None and authors_part(error.__traceback__) is error.__traceback__
