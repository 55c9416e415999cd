"""The agent's verbs, one for each message that it takes, and the messages that it sends."""

from __future__ import annotations

import logging
import os
import socket
import threading
import time
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

from celery import Celery

from agent.execution import Ending, Execution
from agent.groups import kill_all
from agent.sender import Message, Sender
from agent.settings import SECRETS, AgentSettings
from agent.spool import LogSpool
from agent.store import Store
from sagas.jobs.types import AssignmentId, JobCommand, JobId, JobOutcome

logger = logging.getLogger(__name__)


def _now() -> str:
    return datetime.now(UTC).isoformat()


class Agent:
    """Runs assignments, each once, and tells the platform about them until it is told that it knows."""

    def __init__(self, settings: AgentSettings, app: Celery) -> None:
        self._settings = settings
        self._store = Store(settings.home)
        self._instance_id = self._store.instance_id()
        self._env = {name: value for name, value in os.environ.items() if name not in SECRETS}
        self._registered = False
        self._lock = threading.Lock()
        self._running: dict[AssignmentId, tuple[Execution, threading.Thread]] = {}
        self._unacknowledged: dict[AssignmentId, dict[str, Any]] = {}
        self._sender = Sender(app, settings.beat, self._beat_messages)

    def start(self) -> None:
        """Settle what an earlier process of this agent left behind, then begin to send."""
        for assignment_id in self._store.assignments():
            result = self._store.result(assignment_id) or self._settle(assignment_id)
            if not self._store.is_acknowledged(assignment_id):
                self._unacknowledged[assignment_id] = result
                self._finish_log(assignment_id, result)
                self._sender.post(Message("jobs.result", result))
        self._sender.start()

    def _settle(self, assignment_id: AssignmentId) -> dict[str, Any]:
        """End an assignment in whose midst the agent died: kill what is left of it, report it as failed."""
        if not kill_all(assignment_id, self._store.process(assignment_id)):
            logger.error("assignment %s: processes of an earlier run cannot be killed", assignment_id)
        start = self._store.start(assignment_id) or {}
        spool = LogSpool(self._store.directory(assignment_id))
        ending = Ending(JobOutcome.FAILED, error="agent restarted while the job was running")
        result = self._result(assignment_id, start, ending, spool.last_seq)
        spool.close()
        self._store.end(assignment_id, result)
        return result

    def _finish_log(self, assignment_id: AssignmentId, result: dict[str, Any]) -> None:
        spool = LogSpool(self._store.directory(assignment_id))
        self._sender.follow(spool, {"assignment_id": str(assignment_id), "job_id": result["job_id"]})
        self._sender.complete(spool)

    def registered(self) -> None:
        """The platform knows this worker."""
        self._registered = True

    def run_job(self, assignment_id: AssignmentId, job_id: JobId, command: dict[str, Any]) -> None:
        """Begin the assignment, unless it was had before: then say again that it is accepted, and how it ended."""
        if not self._store.has(assignment_id):
            start = {"job_id": str(job_id), "started_at": _now()}
            self._store.begin(assignment_id, start)
            self._begin(assignment_id, start, command)
        names = {"assignment_id": str(assignment_id), "job_id": str(job_id), "worker_id": self._worker_id}
        self._sender.post(Message("jobs.accepted", names))
        if result := self._store.result(assignment_id):
            self._sender.post(Message("jobs.result", result))

    def _begin(self, assignment_id: AssignmentId, start: dict[str, Any], data: dict[str, Any]) -> None:
        directory = self._store.directory(assignment_id)
        try:
            command, spool = JobCommand.from_json(data), LogSpool(directory)
        except (ValueError, OSError) as error:
            self._end(assignment_id, self._result(assignment_id, start, Ending(JobOutcome.FAILED, error=str(error)), 0))
            return
        execution = Execution(assignment_id, command, directory, spool, self._env)
        self._sender.follow(spool, {"assignment_id": str(assignment_id), "job_id": start["job_id"]})
        thread = threading.Thread(
            target=self._execute, args=(assignment_id, start, execution), name=f"job {start['job_id']}", daemon=True
        )
        with self._lock:
            self._running[assignment_id] = (execution, thread)
        thread.start()

    def _execute(self, assignment_id: AssignmentId, start: dict[str, Any], execution: Execution) -> None:
        try:
            ending = execution.run(lambda group: self._store.record_process(assignment_id, group))
        except Exception as error:  # whatever it is, an accepted assignment must have a result
            logger.exception("assignment %s", assignment_id)
            ending = Ending(JobOutcome.FAILED, error=f"agent: {type(error).__name__}: {error}")
        execution.spool.end()
        result = self._result(assignment_id, start, ending, execution.spool.last_seq)
        self._sender.complete(execution.spool)
        self._end(assignment_id, result)

    def _result(
        self, assignment_id: AssignmentId, start: dict[str, Any], ending: Ending, log_lines: int
    ) -> dict[str, Any]:
        return {
            "assignment_id": str(assignment_id),
            "job_id": start.get("job_id"),
            "worker_id": self._worker_id,
            **asdict(ending),
            "log_lines": log_lines,
            "started_at": start.get("started_at"),
            "finished_at": _now(),
        }

    def _end(self, assignment_id: AssignmentId, result: dict[str, Any]) -> None:
        """Write the result down, however long that takes (a full disk), and only then report it."""
        while True:
            try:
                self._store.end(assignment_id, result)
                break
            except OSError as error:
                logger.error("assignment %s: cannot write its result, trying again: %s", assignment_id, error)
                time.sleep(1)
        with self._lock:
            self._unacknowledged[assignment_id] = result
            self._running.pop(assignment_id, None)
        self._sender.post(Message("jobs.result", result))

    def cancel_job(self, assignment_id: AssignmentId, grace: float) -> None:
        """Stop the assignment, or say again how it ended. One that never came is ended before it does."""
        with self._lock:
            running = self._running.get(assignment_id)
        if running is not None:
            running[0].stop(JobOutcome.CANCELLED, "cancelled", grace)
        elif not self._store.has(assignment_id):
            # Messages may overtake one another: the RUN_JOB that comes later must not run what is cancelled.
            self._store.begin(assignment_id, {"job_id": None, "started_at": None})
            ending = Ending(JobOutcome.CANCELLED, error="cancelled before it came to the worker")
            self._end(assignment_id, self._result(assignment_id, {}, ending, 0))
        elif result := self._store.result(assignment_id):
            self._sender.post(Message("jobs.result", result))

    def ack_result(self, assignment_id: AssignmentId) -> None:
        """The platform has this result: do not repeat it any more."""
        self._store.acknowledge(assignment_id)
        with self._lock:
            self._unacknowledged.pop(assignment_id, None)

    def stop(self, grace: float = 3) -> None:
        """End all jobs, and send what can be sent within two seconds; the rest is on disk."""
        with self._lock:
            running = list(self._running.values())
        for execution, _ in running:
            execution.stop(JobOutcome.FAILED, "agent stopped while the job was running", grace)
        for _, thread in running:
            thread.join(grace + 12)
        self._sender.stop(timeout=2)

    def _beat_messages(self) -> Sequence[Message]:
        with self._lock:
            live, results = [str(name) for name in self._running], list(self._unacknowledged.values())
        names = {"worker_id": self._worker_id, "instance_id": self._instance_id}
        heartbeat = Message("workers.heartbeat", {**names, "assignments": live, "results": results})
        if self._registered:
            return [heartbeat]
        me = {"token": self._settings.token, "host": socket.gethostname(), "pid": os.getpid()}
        return [Message("workers.register", {**names, **me}), heartbeat]

    @property
    def _worker_id(self) -> str:
        return str(self._settings.worker_id)
