"""R12: the end of a process whose step lets no signal through, by a timer that costs no thread."""

import signal
import subprocess
import sys

import pytest

DEAF = "ctypes.PyDLL(None).sleep(60)"
"""In C, and it keeps the interpreter to itself: no handler in Python runs."""


def run(*lines: str) -> "subprocess.CompletedProcess[str]":
    script = "\n".join(
        ["import ctypes, os, threading, time", "from sagas.runtime.watchdog import unwatch, watch", *lines]
    )
    return subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=30, check=False)


def test_a_process_that_hears_nothing_ends_and_says_where_it_was() -> None:
    done = run("watch(0.3)", DEAF)
    assert done.returncode == -signal.SIGVTALRM
    assert "most recent call first" in done.stderr


def test_the_last_word_counts() -> None:
    """Watched anew, and not watched any more: what was said before does not strike."""
    done = run(
        "watch(0.2)", "watch(60)", "time.sleep(0.5)", "watch(0.2)", "unwatch()", "time.sleep(0.5)", "print('here')"
    )
    assert (done.returncode, done.stdout) == (0, "here\n")


@pytest.mark.skipif(sys.platform != "linux", reason="/proc")
def test_it_costs_no_thread() -> None:
    done = run("watch(60)", "print(len(os.listdir('/proc/self/task')))")
    assert (done.returncode, done.stdout) == (0, "1\n")


def test_a_child_watches_for_itself() -> None:
    """A timer is not inherited by a fork: the child's own strikes, and not its parent's."""
    done = run(
        "watch(60)",
        "child = os.fork()",
        "if child == 0:",
        "    watch(0.3)",
        f"    {DEAF}",
        "print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))",
    )
    assert (done.returncode, done.stdout) == (0, f"{-signal.SIGVTALRM}\n")
