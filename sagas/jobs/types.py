"""The words of the job platform: ids, states, a worker's specification, a job's command. Standard library only."""

from __future__ import annotations

import math
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any, Self

from sagas.jobs.requirements import Requirements, Resources, require, strings


class _Id(uuid.UUID):
    """A UUID with a type of its own, so that the type checker refuses a worker's id where a job's is meant (L11)."""

    __slots__ = ()

    def __init__(self, value: str | uuid.UUID) -> None:
        """Raises ValueError for a string that is not a UUID."""
        try:
            super().__init__(str(value))
        except ValueError:
            raise ValueError(f"{type(self).__name__}: {value!r} is not a UUID") from None

    @classmethod
    def new(cls) -> Self:
        """A fresh random id."""
        return cls(uuid.uuid4())


class JobId(_Id):
    """Names a job."""

    __slots__ = ()


class WorkerId(_Id):
    """Names a worker and, as it is minted by the caller, is the idempotency token of its infrastructure."""

    __slots__ = ()


class ProviderId(_Id):
    """Names a place that workers come from."""

    __slots__ = ()


class AssignmentId(_Id):
    """Names one try of one job on one worker; a result that names an old one is refused."""

    __slots__ = ()


class JobState(StrEnum):
    """The states of a job. A reassignment takes it back to PENDING, with a new assignment id."""

    PENDING = "PENDING"
    ASSIGNED = "ASSIGNED"
    RUNNING = "RUNNING"
    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"
    TIMED_OUT = "TIMED_OUT"
    CANCELLED = "CANCELLED"

    @property
    def is_terminal(self) -> bool:
        """True when nothing leads out of this state."""
        return not _JOB_EDGES[self]

    def can_transition_to(self, target: JobState) -> bool:
        """True if a job in this state may go to `target`; no state leads to itself."""
        return target in _JOB_EDGES[self]


_JOB_ENDS = frozenset({JobState.SUCCEEDED, JobState.FAILED, JobState.TIMED_OUT, JobState.CANCELLED})
_JOB_EDGES: Mapping[JobState, frozenset[JobState]] = {
    JobState.PENDING: frozenset({JobState.ASSIGNED, JobState.FAILED, JobState.CANCELLED}),
    # A result that overtakes its acceptance ends an ASSIGNED job (L5).
    JobState.ASSIGNED: frozenset({JobState.PENDING, JobState.RUNNING}) | _JOB_ENDS,
    JobState.RUNNING: frozenset({JobState.PENDING}) | _JOB_ENDS,
    **{end: frozenset() for end in _JOB_ENDS},
}


class WorkerState(StrEnum):
    """The states of a worker."""

    CREATING = "CREATING"
    CONNECTING = "CONNECTING"
    READY = "READY"
    BUSY = "BUSY"
    DRAINING = "DRAINING"
    TERMINATING = "TERMINATING"
    TERMINATED = "TERMINATED"

    @property
    def is_terminal(self) -> bool:
        """True when nothing leads out of this state."""
        return not _WORKER_EDGES[self]

    def can_transition_to(self, target: WorkerState) -> bool:
        """True if a worker in this state may go to `target`; no state leads to itself."""
        return target in _WORKER_EDGES[self]


_WORKER_EDGES: Mapping[WorkerState, frozenset[WorkerState]] = {
    WorkerState.CREATING: frozenset({WorkerState.CONNECTING, WorkerState.TERMINATING}),
    WorkerState.CONNECTING: frozenset({WorkerState.READY, WorkerState.TERMINATING}),
    WorkerState.READY: frozenset({WorkerState.BUSY, WorkerState.DRAINING}),
    WorkerState.BUSY: frozenset({WorkerState.READY, WorkerState.DRAINING}),
    WorkerState.DRAINING: frozenset({WorkerState.TERMINATING}),
    WorkerState.TERMINATING: frozenset({WorkerState.TERMINATED}),
    WorkerState.TERMINATED: frozenset(),
}


class JobOutcome(StrEnum):
    """How an assignment ended, in the words of an agent's result."""

    SUCCEEDED = "succeeded"
    FAILED = "failed"
    TIMED_OUT = "timed_out"
    CANCELLED = "cancelled"

    @property
    def job_state(self) -> JobState:
        """The state that a job reaches by this outcome."""
        return JobState[self.name]


@dataclass(frozen=True)
class WorkerSpec:
    """What a worker should be.

    `image` is what it runs from (of no meaning to the process provider), `server_address` the broker's URL or address
    as the worker reaches it; `labels` are the caller's own; `resources` are what it may use, if its provider can
    limit that.
    """

    image: str
    server_address: str
    labels: Mapping[str, str] = field(default_factory=dict)
    resources: Resources = field(default_factory=Resources)

    def meeting(self, requirements: Requirements) -> Self:
        """The same worker, with the labels and resources that a job asks for."""
        labels = {**self.labels, **requirements.labels}
        asked, own = requirements.resources, self.resources
        resources = Resources(asked.cpu or own.cpu, asked.memory or own.memory)
        return replace(self, labels=labels, resources=resources)

    def to_json(self) -> dict[str, Any]:
        """A dict that JSON can hold; `from_json` reads it back."""
        return {
            "image": self.image,
            "server_address": self.server_address,
            "labels": dict(self.labels),
            "resources": self.resources.to_json(),
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """Raises ValueError, in one line, for what `to_json` would not have written."""
        image, address, labels = data.get("image"), data.get("server_address"), data.get("labels") or {}
        texts = isinstance(image, str) and isinstance(address, str)
        require(texts, "worker spec: 'image' and 'server_address' must be strings")
        try:
            resources = Resources.from_json(data.get("resources") or {})
        except ValueError as error:
            raise ValueError(f"worker spec: {error}") from None
        return cls(str(image), str(address), strings("worker spec: 'labels'", labels), resources)


@dataclass(frozen=True)
class JobCommand:
    """What a job runs: a program with its arguments, without a shell; or a script, with `argv` as its arguments.

    `script` is its text: run by what its first line names (`#!`), or by `sh`. `env` is added to the worker's own
    environment; `cwd` None means a fresh directory of the assignment's own; `stdin` is text for its standard input;
    `timeout` is in seconds, None means no limit.
    """

    argv: tuple[str, ...]
    env: Mapping[str, str] = field(default_factory=dict)
    cwd: str | None = None
    stdin: str | None = None
    timeout: float | None = None
    script: str | None = None

    @property
    def program(self) -> str:
        """What it is called: the program's name; of a script its first line."""
        return self.argv[0] if self.script is None else self.script.partition("\n")[0]

    def __post_init__(self) -> None:
        """Raises ValueError for a command that no system could run."""
        texts = (*self.argv, *self.env, *self.env.values(), self.cwd or "")
        if self.script is not None and not self.script.strip():
            raise ValueError("job command: 'script' is empty")
        if self.script is None and (not self.argv or not self.argv[0]):
            raise ValueError("job command: 'argv' must name a program")
        if any("\0" in text for text in texts):
            raise ValueError("job command: 'argv', 'env' and 'cwd' must not contain NUL")
        if any(not name or "=" in name for name in self.env):
            raise ValueError("job command: a name in 'env' must not be empty or contain '='")
        if self.timeout is not None and not (math.isfinite(self.timeout) and self.timeout > 0):
            raise ValueError("job command: 'timeout' must be a positive number of seconds")

    def to_json(self) -> dict[str, Any]:
        """A dict that JSON can hold; `from_json` reads it back."""
        return {
            "argv": list(self.argv),
            "script": self.script,
            "env": dict(self.env),
            "cwd": self.cwd,
            "stdin": self.stdin,
            "timeout": self.timeout,
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """Raises ValueError, in one line, for what is not a command."""
        argv, cwd, stdin, timeout = (data.get(name) for name in ("argv", "cwd", "stdin", "timeout"))
        argv, script = argv if argv is not None else [], data.get("script")
        words = isinstance(argv, list | tuple) and all(isinstance(arg, str) for arg in argv)
        require(words, "job command: 'argv' must be a list of strings")
        require(isinstance(cwd, str | None), "job command: 'cwd' must be a string or null")
        require(isinstance(stdin, str | None), "job command: 'stdin' must be a string or null")
        require(isinstance(script, str | None), "job command: 'script' must be a string or null")
        number = isinstance(timeout, int | float | None) and not isinstance(timeout, bool)
        require(number, "job command: 'timeout' must be a positive number of seconds")
        env = strings("job command: 'env'", data.get("env") or {})
        return cls(tuple(argv), env, cwd, stdin, timeout, script)
