"""One run of one command: start it, watch its time, stop it, say how it ended."""

from __future__ import annotations

import queue
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from agent.groups import ASSIGNMENT_VARIABLE, group_record, kill_all, signal_group
from agent.pump import LogPump
from agent.spool import LogSpool
from agent.store import SCRIPT
from sagas.jobs.types import AssignmentId, JobCommand, JobOutcome

GRACE = 5.0  # seconds between SIGTERM and SIGKILL at a time limit
NOT_FOUND, NOT_RUNNABLE = 127, 126  # exit codes, as the shell has them

Process = subprocess.Popen[bytes]


@dataclass(frozen=True)
class Ending:
    """How a command ended; `exit_code` is 128 + n after signal n, None if there is none."""

    outcome: JobOutcome
    exit_code: int | None = None
    error: str | None = None


@dataclass(frozen=True)
class _Stop:
    """A wish that the command end before its time, and what that will be called."""

    outcome: JobOutcome
    error: str
    grace: float


class Execution:
    """Runs a command once, in a process group of its own; `env` is its environment but for the command's additions."""

    def __init__(
        self,
        assignment_id: AssignmentId,
        command: JobCommand,
        directory: Path,
        spool: LogSpool,
        env: Mapping[str, str],
    ) -> None:
        self.spool = spool
        self._assignment_id = assignment_id
        self._command = command
        self._directory = directory
        self._env = {**env, **command.env, ASSIGNMENT_VARIABLE: str(assignment_id)}
        self._events: queue.SimpleQueue[_Stop | int] = queue.SimpleQueue()  # an int is the exit code

    def stop(self, outcome: JobOutcome, error: str, grace: float) -> None:
        """Ask for an early end: SIGTERM to the group, after `grace` seconds SIGKILL. No effect once it has ended."""
        self._events.put(_Stop(outcome, error, grace))

    def run(self, record: Callable[[dict[str, Any]], None]) -> Ending:
        """Run to the end. `record` is called with the numbers of the process group as soon as there is one."""
        try:
            with self._stdin() as stdin:
                process = self._spawn(stdin)
        except OSError as error:
            return self._not_started(error)
        assert process.stdout is not None and process.stderr is not None
        group = group_record(process.pid)
        pump = LogPump(process.stdout, process.stderr, self.spool)
        pump.start()
        threading.Thread(target=lambda: self._events.put(process.wait()), name="waiter", daemon=True).start()
        try:
            record(group)
            ending = self._supervise(process.pid)
        finally:
            kill_all(self._assignment_id, group)
            pump.finish(timeout=1)
        return ending

    def _stdin(self) -> IO[bytes]:
        file = tempfile.TemporaryFile(dir=self._directory)  # noqa: SIM115 - the caller closes it
        file.write((self._command.stdin or "").encode("utf-8", "surrogateescape"))
        file.seek(0)
        return file

    def _spawn(self, stdin: IO[bytes]) -> Process:
        cwd = Path(self._command.cwd) if self._command.cwd is not None else self._directory / "work"
        if self._command.cwd is None:
            cwd.mkdir(exist_ok=True)
        return subprocess.Popen(
            self._argv(),
            cwd=cwd,
            env=self._env,
            stdin=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            process_group=0,
        )

    def _argv(self) -> Sequence[str]:
        """The command; a script is a file beside the log, run by what its first line names, or by sh."""
        script = self._command.script
        if script is None:
            return self._command.argv
        path = self._directory / SCRIPT
        path.write_text(script, encoding="utf-8", errors="surrogateescape", newline="")
        path.chmod(0o700)
        return (*(() if script.startswith("#!") else ("sh",)), str(path), *self._command.argv)

    def _not_started(self, error: OSError) -> Ending:
        program, cwd = self._command.program, self._command.cwd
        if cwd is not None and not Path(cwd).is_dir():
            ending = Ending(JobOutcome.FAILED, NOT_RUNNABLE, f"working directory not found: {cwd}")
        elif isinstance(error, FileNotFoundError):
            ending = Ending(JobOutcome.FAILED, NOT_FOUND, f"command not found: {program}")
        else:
            ending = Ending(JobOutcome.FAILED, NOT_RUNNABLE, f"cannot run {program}: {error.strerror or error}")
        self.spool.append("stderr", [f"{ending.error}\n"])
        return ending

    def _supervise(self, pgid: int) -> Ending:
        """Wait for the exit, a wish to stop or the time limit, whichever comes first."""
        limit = self._command.timeout
        try:
            event = self._events.get(timeout=limit)
        except queue.Empty:
            event = _Stop(JobOutcome.TIMED_OUT, f"time limit of {limit:g} s exceeded", GRACE)
        if isinstance(event, int):
            return _ended(event)
        return Ending(event.outcome, _exit_code(self._stop_group(pgid, event.grace)), event.error)

    def _stop_group(self, pgid: int, grace: float) -> int:
        signal_group(pgid, signal.SIGTERM)
        deadline = time.monotonic() + grace
        while True:
            try:
                event = self._events.get(timeout=max(0.0, deadline - time.monotonic()))
            except queue.Empty:
                signal_group(pgid, signal.SIGKILL)
                deadline = time.monotonic() + 3600  # nothing but the exit is waited for now
                continue
            if isinstance(event, int):
                return event
            deadline = min(deadline, time.monotonic() + event.grace)


def _exit_code(returncode: int) -> int:
    return returncode if returncode >= 0 else 128 - returncode


def _ended(returncode: int) -> Ending:
    if returncode == 0:
        return Ending(JobOutcome.SUCCEEDED, 0)
    if returncode > 0:
        return Ending(JobOutcome.FAILED, returncode, f"exit code {returncode}")
    try:
        name = signal.Signals(-returncode).name
    except ValueError:
        name = f"signal {-returncode}"
    return Ending(JobOutcome.FAILED, _exit_code(returncode), f"killed by {name}")
