"""The time limit of a step (R12): what it raises, what it leaves behind, and where there is none."""

import signal
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from billiard.process import current_process

from sagas.errors import StepTimeLimit
from sagas.runtime.limits import calm, time_limit


@pytest.fixture
def child(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """As in a child of a pool, whose alarm is the engine's."""
    before = signal.getsignal(signal.SIGALRM)
    monkeypatch.setattr(current_process(), "index", 0, raising=False)
    yield
    signal.signal(signal.SIGALRM, before)


def busy(seconds: float) -> None:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        pass


def struck(seconds: float) -> str:
    with pytest.raises(StepTimeLimit) as caught, time_limit(seconds):
        busy(5)
    return str(caught.value)


def test_it_strikes_with_the_limit_of_what_runs(child: None) -> None:
    """One handler for all steps of a process: each has its own limit."""
    assert struck(0.05) == "stopped by its time limit of 0.05 s"
    with time_limit(60):
        pass
    assert struck(0.1) == "stopped by its time limit of 0.1 s"


def test_nothing_strikes_when_the_body_is_over(child: None) -> None:
    """Neither its alarm nor its watch: what follows is a commit, which may take long."""
    with time_limit(0.05):
        pass
    busy(0.2)
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)


def test_an_alarm_that_comes_too_late_is_none(child: None) -> None:
    """It was on its way when the body ended."""
    with time_limit(60):
        pass
    signal.raise_signal(signal.SIGALRM)


def test_nothing_is_left_of_a_limit_that_struck_on_the_way_out(child: None) -> None:
    """Between the body and its cleaning up: whoever catches it calms what is left, or the watch would kill later."""
    limit = time_limit(0.05)
    limit.__enter__()
    with pytest.raises(StepTimeLimit):
        busy(5)  # and __exit__ is never reached
    calm()
    signal.raise_signal(signal.SIGALRM)
    busy(1.3)  # the watch would have ended this process a second after the limit
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)


def test_a_limit_within_another(child: None) -> None:
    """A step that runs a saga in its own process: the inner limit takes the outer one with it, and nothing breaks."""
    with time_limit(60):
        assert struck(0.05) == "stopped by its time limit of 0.05 s"
        calm()
    assert struck(0.05) == "stopped by its time limit of 0.05 s"


def test_a_handler_of_the_authors_does_not_stay_in_the_way(child: None) -> None:
    """A step that sets its own alarm, and leaves it, does not take the next step's limit away."""
    with time_limit(60):
        signal.signal(signal.SIGALRM, signal.SIG_IGN)
    assert struck(0.05) == "stopped by its time limit of 0.05 s"


def test_a_script_gets_its_own_handler_back() -> None:
    """Outside a pool the alarm is somebody else's."""

    def own(*_: Any) -> None:
        raise AssertionError("not in here")

    before = signal.signal(signal.SIGALRM, own)
    try:
        assert struck(0.05) == "stopped by its time limit of 0.05 s"
        assert signal.getsignal(signal.SIGALRM) is own
    finally:
        signal.signal(signal.SIGALRM, before)


def test_a_thread_has_no_limit() -> None:
    """There its claim is renewed instead."""
    ended = threading.Event()

    def work() -> None:
        with time_limit(0.01):
            busy(0.1)
        ended.set()

    threading.Thread(target=work).start()
    assert ended.wait(5)
