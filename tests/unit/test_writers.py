"""The threads of `start_many`, also where an executor of the standard library has none any more."""

import subprocess
import sys
import threading

import pytest

from sagas.runtime.writers import Writers


def run(code: str) -> str:
    """What a Python process of its own that runs this prints."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert not done.stderr
    return done.stdout


def test_they_write_beside_the_caller() -> None:
    """Both are at work at once, and neither in the caller's thread."""
    together = threading.Barrier(2, timeout=30)

    def work() -> str:
        together.wait()
        return threading.current_thread().name

    with Writers(2) as writers:
        names = {future.result() for future in [writers.submit(work), writers.submit(work)]}
    assert len(names) == 2
    assert threading.current_thread().name not in names
    assert not names & {thread.name for thread in threading.enumerate()}


def test_the_caller_writes_where_there_is_no_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    def none(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", none)
    with Writers(2) as writers:
        assert writers.submit(threading.current_thread).result() is threading.current_thread()


def test_an_error_is_that_of_who_asks_for_the_result() -> None:
    with Writers(1) as writers:
        failed, done = writers.submit(lambda: 1 // 0), writers.submit(lambda: 7)
        with pytest.raises(ZeroDivisionError):
            failed.result()
        assert done.result() == 7


def test_what_has_not_begun_is_dropped_when_the_caller_is_interrupted() -> None:
    """And what has is waited for."""
    begun, may_end = threading.Event(), threading.Event()
    done: list[int] = []

    def first() -> None:
        begun.set()
        may_end.wait(30)
        done.append(1)

    with pytest.raises(KeyboardInterrupt), Writers(1) as writers:
        writers.submit(first)
        writers.submit(lambda: done.append(2))
        begun.wait(30)
        threading.Timer(1.0, may_end.set).start()
        raise KeyboardInterrupt
    assert done == [1]


def test_they_work_while_the_main_thread_is_at_its_end() -> None:
    """Where `concurrent.futures` says: cannot schedule new futures after interpreter shutdown."""
    code = """
import threading
from sagas.runtime.writers import Writers

def rest():
    with Writers(2) as writers:
        threading.main_thread().join()
        print([writers.submit(lambda: 1).result() for _ in range(3)])

threading.Thread(target=rest).start()
"""
    assert run(code) == "[1, 1, 1]\n"


def test_they_work_at_the_exit() -> None:
    code = """
import atexit
from sagas.runtime.writers import Writers

def rest():
    with Writers(2) as writers:
        print(writers.submit(lambda: 1).result())

atexit.register(rest)
"""
    assert run(code) == "1\n"


def test_who_was_interrupted_while_he_makes_them_can_end() -> None:
    """The signal came in the second one's start: the first one must not keep the process."""
    code = """
import threading
from sagas.runtime.writers import Writers

start = threading.Thread.start
def interrupted(thread):
    start(thread)
    if thread.name.endswith("1"):
        raise KeyboardInterrupt
threading.Thread.start = interrupted
kept = None
try:
    Writers(2)
except KeyboardInterrupt as error:
    kept = error
print("interrupted")
"""
    assert run(code) == "interrupted\n"


def test_who_was_interrupted_between_two_results_can_end() -> None:
    """His traceback, which somebody keeps, keeps the generator that waits in `with`."""
    code = """
from sagas.runtime.writers import Writers

def results():
    with Writers(2) as writers:
        yield writers.submit(lambda: 1).result()

kept = results()
print(next(kept))
"""
    assert run(code) == "1\n"
