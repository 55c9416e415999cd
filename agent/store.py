"""The agent's disk: what it was asked to run and how that ended. One directory for each assignment it ever had."""

from __future__ import annotations

import json
import os
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sagas.jobs.types import AssignmentId

SCRIPT = "script"
"""The file of an assignment that holds its job's script."""


def write_durably(path: Path, data: Any) -> None:
    """Replace the file by `data` as JSON; after a crash there is the old file or the new one. Raises OSError."""
    fresh = path.with_name(path.name + ".new")
    with fresh.open("w", encoding="utf-8") as file:
        json.dump(data, file)
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(path)
    _sync_directory(path.parent)


def _sync_directory(path: Path) -> None:
    directory = os.open(path, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def _read(path: Path) -> dict[str, Any] | None:
    try:
        data: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    return data


class Store:
    """Assignments by id: begun, process started, ended (with a result), acknowledged."""

    def __init__(self, home: Path) -> None:
        self._home = home
        self._root = home / "assignments"
        self._root.mkdir(parents=True, exist_ok=True)

    def instance_id(self) -> str:
        """The id of this agent's disk: the same after a restart."""
        path = self._home / "instance.json"
        known = _read(path)
        if known is None:
            known = {"instance_id": str(uuid.uuid4())}
            write_durably(path, known)
        return str(known["instance_id"])

    def directory(self, assignment_id: AssignmentId) -> Path:
        """Where everything about the assignment lies."""
        return self._root / str(assignment_id)

    def has(self, assignment_id: AssignmentId) -> bool:
        """True if this assignment was ever begun here."""
        return (self.directory(assignment_id) / "start.json").exists()

    def begin(self, assignment_id: AssignmentId, start: dict[str, Any]) -> None:
        """Record that the assignment is about to be run; from here on it is never begun again."""
        directory = self.directory(assignment_id)
        directory.mkdir(exist_ok=True)
        _sync_directory(self._root)
        write_durably(directory / "start.json", start)

    def record_process(self, assignment_id: AssignmentId, process: dict[str, Any]) -> None:
        """Record the process group, to be found again after a crash of the agent."""
        write_durably(self.directory(assignment_id) / "process.json", process)

    def end(self, assignment_id: AssignmentId, result: dict[str, Any]) -> None:
        """Record the result, and tidy up what the command left in its own directory."""
        directory = self.directory(assignment_id)
        write_durably(directory / "result.json", result)
        shutil.rmtree(directory / "work", ignore_errors=True)
        (directory / SCRIPT).unlink(missing_ok=True)

    def acknowledge(self, assignment_id: AssignmentId) -> None:
        """Record that the platform has the result; an unknown assignment is ignored."""
        if self.result(assignment_id) is not None:
            (self.directory(assignment_id) / "acknowledged").touch()

    def start(self, assignment_id: AssignmentId) -> dict[str, Any] | None:
        """What `begin` recorded."""
        return _read(self.directory(assignment_id) / "start.json")

    def process(self, assignment_id: AssignmentId) -> dict[str, Any] | None:
        """What `record_process` recorded."""
        return _read(self.directory(assignment_id) / "process.json")

    def result(self, assignment_id: AssignmentId) -> dict[str, Any] | None:
        """The result, if the assignment has ended."""
        return _read(self.directory(assignment_id) / "result.json")

    def is_acknowledged(self, assignment_id: AssignmentId) -> bool:
        """True if the platform has the result."""
        return (self.directory(assignment_id) / "acknowledged").exists()

    def assignments(self) -> Iterator[AssignmentId]:
        """All assignments that were begun, ended or not."""
        for path in sorted(self._root.iterdir()):
            if (path / "start.json").exists():
                yield AssignmentId(path.name)
