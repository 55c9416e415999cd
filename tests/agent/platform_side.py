"""The platform as the agent sees it: sends to its queue, and consumes `control` and `logs`."""

import sys
from contextlib import suppress
from typing import Any

from celery import Celery
from kombu import Connection, Consumer, Queue

from sagas.jobs.types import AssignmentId, JobId, WorkerId
from tests.harness.processes import Process, Processes
from tests.harness.wait import wait_for

Message = dict[str, Any]


class PlatformSide:
    """One worker's platform. `messages` holds everything that came, as (task name, keyword arguments)."""

    def __init__(self, broker_url: str, processes: Processes) -> None:
        self.worker_id = WorkerId.new()
        self.broker_url = broker_url
        self.messages: list[tuple[str, Message]] = []
        self.home = processes.directory / "agents" / str(self.worker_id)
        self._processes = processes
        self._app = Celery("platform", broker=broker_url, set_as_current=False)
        self._connection = Connection(broker_url)

    def start_agent(self, beat: float = 0.3) -> Process:
        """`python -m agent`, as a provider would start it."""
        env = {
            "HODEI_BROKER_URL": self.broker_url,
            "HODEI_WORKER_ID": str(self.worker_id),
            "HODEI_WORKER_TOKEN": "secret-token",
            "HODEI_AGENT_HOME": str(self.home),
            "HODEI_WORKER_BEAT": str(beat),
        }
        return self._processes.start("agent", [sys.executable, "-m", "agent"], env)

    def send(self, task: str, **kwargs: Any) -> None:
        """Send a message to the worker's own queue."""
        self._app.send_task(f"agent.{task}", kwargs=kwargs, queue=f"worker.{self.worker_id}")

    def run_job(self, argv: list[str], assignment: AssignmentId | None = None, **command: Any) -> AssignmentId:
        """Send RUN_JOB; the assignment's id."""
        assignment = assignment or AssignmentId.new()
        job_id = str(JobId(assignment))  # derived, so that a repeated message is the same message
        self.send("run_job", assignment_id=str(assignment), job_id=job_id, command={"argv": argv, **command})
        return assignment

    def all(self, task: str, assignment: AssignmentId | None = None) -> list[Message]:
        """What has come so far of one task."""
        self._receive()
        found = [kwargs for name, kwargs in self.messages if name == task]
        return [m for m in found if assignment is None or m["assignment_id"] == str(assignment)]

    def wait(self, task: str, assignment: AssignmentId | None = None, count: int = 1, timeout: float = 20) -> Message:
        """The `count`-th message of one task (about one assignment), once it has come."""

        def came() -> list[Message]:
            return self.all(task, assignment)[count - 1 :]

        return wait_for(came, timeout, lambda: f"{task}: {self.messages[-4:]}")[0]

    def output(self, assignment: AssignmentId, stream: str) -> str:
        """The text of one stream so far, every record once."""
        return "".join(text for _, name, text in self.records(assignment) if name == stream)

    def records(self, assignment: AssignmentId) -> list[Any]:
        """The log's records so far, in order; one that came twice counts once."""
        batches = self.all("jobs.log", assignment)
        return sorted({record[0]: record for batch in batches for record in batch["records"]}.values())

    def complete_log(self, result: Message) -> list[Any]:
        """All the records that the result announces."""
        assignment = AssignmentId(result["assignment_id"])
        return wait_for(
            lambda: len(self.records(assignment)) == result["log_lines"] and [*self.records(assignment), None],
            message=lambda: f"{result} {self.records(assignment)}",
        )[:-1]

    def forget(self) -> None:
        """Start counting messages anew."""
        self._receive()
        self.messages.clear()

    def _receive(self) -> None:
        def on_message(body: Any, message: Any) -> None:
            self.messages.append((message.headers["task"], body[1]))
            message.ack()

        queues = [Queue(name, routing_key=name) for name in ("control", "logs")]
        with suppress(self._connection.connection_errors):
            channel = self._connection.default_channel
            with Consumer(channel, queues, callbacks=[on_message], accept=["json"]), suppress(TimeoutError):
                while True:
                    self._connection.drain_events(timeout=0.02)

    def close(self) -> None:
        """Disconnect."""
        self._connection.release()
        self._app.close()
