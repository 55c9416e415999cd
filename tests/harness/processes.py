"""Child processes of a test: each in its own session, with a log file, all stopped at the end."""

import os
import signal as signals
import subprocess
import uuid
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import psutil

from tests.harness.system import MARK, alive, die_with_parent, in_session, marked
from tests.harness.wait import wait_for

ROOT = Path(__file__).resolve().parents[2]


class Process:
    """One started command.

    `name` is the log file's name in `directory`. The process leads its own session, so that `kill_all` reaches
    its children too. Its output goes to the log file, which a restart appends to.
    """

    def __init__(
        self, name: str, command: Sequence[str], directory: Path, env: Mapping[str, str], cwd: Path | None = None
    ) -> None:
        """`env` is the whole environment, with the test's mark: take it from `Processes.environment`."""
        self.name = name
        self.command = list(command)
        self.env = dict(env)
        self.cwd = cwd or directory
        self.log_path = directory / f"{name}.log"
        self._start_of_log = 0
        self._popen = self._spawn()

    def _spawn(self) -> subprocess.Popen[bytes]:
        if self.log_path.exists():
            self._start_of_log = self.log_path.stat().st_size
        with self.log_path.open("ab") as log:
            return subprocess.Popen(
                self.command,
                env=self.env,
                cwd=self.cwd,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=die_with_parent(signals.SIGKILL),  # noqa: PLW1509 - it takes no lock
            )

    @property
    def main_pid(self) -> int:
        """The pid of the started process (also the id of its session)."""
        return self._popen.pid

    def running(self) -> bool:
        """Whether the started process itself is alive (a stopped one is)."""
        return self._popen.poll() is None

    def child_pids(self) -> list[int]:
        """Pids of the living direct children (of a prefork worker: its pool), oldest first."""
        if not self.running():
            return []
        children = psutil.Process(self.main_pid).children()
        return [child.pid for child in sorted(children, key=psutil.Process.create_time) if alive(child.pid)]

    def session_pids(self) -> list[int]:
        """Pids of every living process of the session, the started one first."""
        mark = self.env[MARK]  # checked too, because a pid may have been given to somebody else since
        session = (process for process in psutil.process_iter() if in_session(process, self.main_pid))
        pids = [process.pid for process in session if marked(process, mark)]
        return sorted(pids, key=lambda pid: (pid != self.main_pid, pid))

    def kill_main(self, signal: int = signals.SIGKILL) -> None:
        """Send `signal` to the started process alone; after SIGKILL wait until it is gone."""
        self._send(self.main_pid, signal)
        if signal == signals.SIGKILL:
            self._popen.wait(10)

    def kill_all(self, signal: int = signals.SIGKILL) -> None:
        """Send `signal` to the whole session at one instant.

        A machine's death: all are stopped first, so that none of them sees another one die.
        """
        if signal == signals.SIGKILL:
            self.pause()
        pids = self.session_pids()
        for pid in pids:
            self._send(pid, signal)
        if signal == signals.SIGKILL:
            self._popen.wait(10)
            wait_for(lambda: not any(map(alive, pids)), message=f"{self.name}: session gone")

    def kill(self, signal: int = signals.SIGKILL) -> None:
        """What `docker kill` does: SIGKILL ends everything, any other signal goes to the started process."""
        if signal == signals.SIGKILL:
            self.kill_all(signal)
        else:
            self.kill_main(signal)

    def pause(self, main_only: bool = False) -> None:
        """SIGSTOP the session (a hung machine), or the started process alone."""
        for pid in [self.main_pid] if main_only else self.session_pids():
            self._send(pid, signals.SIGSTOP)

    def resume(self) -> None:
        """SIGCONT the whole session."""
        for pid in self.session_pids():
            self._send(pid, signals.SIGCONT)

    def wait(self, timeout: float = 15.0) -> int:
        """Wait for the end of the started process; its exit code (negative: the signal). `timeout` in seconds."""
        return self._popen.wait(timeout)

    def stop(self, timeout: float = 10.0) -> int:
        """SIGTERM, then after `timeout` seconds SIGKILL for all that is left of the session; the exit code."""
        self.resume()
        self._send(self.main_pid, signals.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            self._popen.wait(timeout)
        self.kill_all(signals.SIGKILL)
        return self._popen.wait()

    def restart(self) -> None:
        """Start the same command again (stopping it first if it runs); the log goes on in the same file."""
        if self.running():
            self.stop()
        self._popen = self._spawn()

    def log(self, since_start: bool = False) -> str:
        """The log's text; with `since_start` only what came since the last start."""
        data = self.log_path.read_bytes()
        return data[self._start_of_log if since_start else 0 :].decode(errors="replace")

    def tail(self, lines: int = 40) -> str:
        """The last `lines` lines of the log."""
        return "\n".join(self.log().splitlines()[-lines:])

    def wait_for_log(self, text: str, timeout: float = 15.0) -> None:
        """Wait until `text` is in the log of the present run; AssertionError if the process ends before."""

        def seen() -> bool:
            if text in self.log(since_start=True):
                return True
            if not self.running():
                raise AssertionError(f"{self.name} ended ({self._popen.returncode}) before {text!r}:\n{self.tail()}")
            return False

        wait_for(seen, timeout, lambda: f"{text!r} in the log of {self.name}:\n{self.tail()}")

    def _send(self, pid: int, signal: int) -> None:
        with suppress(ProcessLookupError):
            os.kill(pid, signal)


class Processes:
    """Everything that one test has started, in `directory`; `stop` ends it all, in whatever session it is."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.mark = uuid.uuid4().hex
        self.started: list[Process] = []

    def environment(self, extra: Mapping[str, str] | None = None) -> dict[str, str]:
        """The environment of a process of this test: ours, the project root importable, the mark, and `extra`."""
        path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH", "")]))
        own = {
            "PYTHONPATH": path,
            "PYTHONUNBUFFERED": "1",
            # As where it is installed: our modules are compiled once, and not at each start of a process.
            "PYTHONDONTWRITEBYTECODE": "",
            "HODEI_HOME": str(self.directory / "hodei"),
            MARK: self.mark,
        }
        return {**os.environ, **own, **(extra or {})}

    def start(
        self, name: str, command: Sequence[str], env: Mapping[str, str] | None = None, cwd: Path | None = None
    ) -> Process:
        """Start `command`; `env` is added to the environment; `cwd` defaults to the test's directory."""
        return self.add(Process(name, command, self.directory, self.environment(env), cwd))

    def add(self, process: Process) -> Process:
        """Take over a process that was made with this test's environment."""
        self.started.append(process)
        return process

    def kill(self, pid: int, signal: int = signals.SIGKILL) -> None:
        """Send `signal` to a process of this test, a pool child for instance; after SIGKILL wait until it is gone."""
        assert marked(psutil.Process(pid), self.mark), f"{pid} is no process of this test"
        os.kill(pid, signal)
        if signal == signals.SIGKILL:
            wait_for(lambda: not alive(pid), message=f"{pid} gone")

    def stop(self) -> None:
        """Kill all that is left, found by session and by mark. Nothing is asked nicely: the test is over."""
        for process in self.started:
            if process.session_pids():
                process.kill_all(signals.SIGKILL)
        for stray in self.strays():
            with suppress(psutil.NoSuchProcess):  # the end of another one may have been its own
                stray.kill()
                stray.wait(10)

    def strays(self) -> list[psutil.Process]:
        """Living processes that carry this test's mark but are in none of its sessions."""
        return [process for process in psutil.process_iter() if marked(process, self.mark)]

    def report(self) -> list[tuple[str, str]]:
        """(title, tail of the log) of each process, for the report of a failed test."""
        return [(f"{process.name} ({process.log_path})", process.tail()) for process in self.started]
