"""Processes are found, killed and reported, whatever they do."""

import shutil
import signal as signals
import sys
from pathlib import Path

import psutil
import pytest

from tests.harness.processes import ROOT, Processes
from tests.harness.system import alive
from tests.harness.wait import wait_for

FAMILY = """
import subprocess, sys, time
subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"], start_new_session={other})
print("ready", flush=True)
time.sleep(60)
"""


def family(processes: Processes, name: str = "family", other_session: bool = False) -> list[int]:
    process = processes.start(name, [sys.executable, "-c", FAMILY.format(other=other_session)])
    process.wait_for_log("ready")
    return [process.main_pid, *process.child_pids()]


def gone(pids: list[int]) -> bool:
    return not any(alive(pid) for pid in pids)


def test_killing_all_reaches_the_children(processes: Processes) -> None:
    pids = family(processes)
    processes.started[0].kill_all()
    assert len(pids) == 2 and gone(pids)


def test_killing_main_leaves_the_children(processes: Processes) -> None:
    main, child = family(processes)
    processes.started[0].kill_main()
    assert gone([main]) and not gone([child])
    processes.stop()
    assert gone([child])


def test_what_moved_to_another_session_is_stopped_too(processes: Processes) -> None:
    pids = family(processes, other_session=True)
    processes.stop()
    assert gone(pids)


def test_a_paused_process_is_stopped_too(processes: Processes) -> None:
    pids = family(processes)
    processes.started[0].pause()
    wait_for(lambda: psutil.Process(pids[0]).status() == psutil.STATUS_STOPPED)
    assert processes.started[0].stop(timeout=5) == -signals.SIGTERM
    assert gone(pids)


def test_an_early_end_is_told_with_its_log(processes: Processes) -> None:
    process = processes.start("loser", [sys.executable, "-c", "print('no luck'); raise SystemExit(3)"])
    with pytest.raises(AssertionError, match=r"(?s)loser ended \(3\).*no luck"):
        process.wait_for_log("ready")
    assert process.wait() == 3


def test_a_failed_test_shows_the_logs_and_leaves_nothing(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    pytester.makeconftest(Path(__file__).parents[1].joinpath("conftest.py").read_text())
    pytester.makepyfile(
        """
        import sys
        def test_it(processes):
            process = processes.start(
                "speaker", [sys.executable, "-c", "print('last words'); " + "import time; time.sleep(60)"]
            )
            process.wait_for_log("last words")
            print("pid", process.main_pid)
            assert False
        """
    )
    result = pytester.runpytest_subprocess("-p", "no:cacheprovider")
    result.stdout.fnmatch_lines(["*speaker (*", "last words"])
    (line,) = [line for line in result.outlines if line.startswith("pid ")]
    assert gone([int(line.split()[1])])


def test_nothing_outlives_a_killed_pytest(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    pytester.makeconftest(Path(__file__).parents[1].joinpath("conftest.py").read_text())
    pytester.makepyfile(
        """
        import os, signal, sys
        def test_it(processes, postgres_server, broker_server):
            process = processes.start("sleeper", [sys.executable, "-c", "import time; time.sleep(60)"])
            with open("pids", "w") as file:
                for server in (postgres_server, broker_server):
                    print(server.pid, server.plan.directory, file=file)
                print(process.main_pid, ".", file=file)
            os.kill(os.getpid(), signal.SIGKILL)
        """
    )
    pytester.runpytest_subprocess("-p", "no:cacheprovider")
    rows = [line.split() for line in pytester.path.joinpath("pids").read_text().splitlines()]
    wait_for(lambda: gone([int(pid) for pid, _ in rows]), message="killed by the kernel")
    for _, directory in rows[:2]:
        shutil.rmtree(directory)
