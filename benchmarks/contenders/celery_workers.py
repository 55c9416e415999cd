"""What contenders that run on Celery's workers share."""

import socket
import struct
import sys
import time
import uuid
from abc import abstractmethod
from collections.abc import Mapping
from contextlib import suppress
from functools import cached_property
from typing import Any, ClassVar

from celery import Celery

from benchmarks.apps.shared import RECORD
from benchmarks.contenders.base import Contender
from sagas.cli.plans import last_line
from tests.harness.processes import Process
from tests.harness.wait import wait_for

START = 60.0
BRPOP = 1.2
"""Seconds after which no worker listens on a queue any more that it has given up (kombu listens for one at a time)."""


class CeleryContender(Contender):
    """A worker of `app` on `queues`, with a pool of the options' size."""

    app: ClassVar[str]
    queues: ClassVar[tuple[str, ...]]
    python = sys.executable

    @cached_property
    def client(self) -> Celery:
        """The app that publishes, and talks to the worker."""
        client = Celery("bench", broker=self.stand.servers.broker.url, set_as_current=False)
        client.conf.update(task_ignore_result=True, broker_connection_timeout=5, task_default_queue=self.queues[0])
        return client

    @cached_property
    def _redis(self) -> Any:
        return self.stand.servers.broker.client()

    def environment(self, name: str) -> dict[str, str]:
        """Of the process of that name."""
        env = {**self.job.environment, "BENCH_BROKER_URL": self.stand.servers.broker.url}
        return {**env, "BENCH_ENDS": str(self.stand.ends)} if self.timed and name == "worker" else env

    def worker(self, name: str, queues: tuple[str, ...], concurrency: int) -> Process:
        """Start a worker; `start` waits for it."""
        options = self.stand.options
        words = ["worker", "-n", _node(name), "-Q", ",".join(queues), "-c", str(concurrency), "-P", "prefork"]
        words += [f"--prefetch-multiplier={options.prefetch}", "-l", "WARNING", "--without-mingle", "--without-gossip"]
        words += ["-E"] if options.events else []
        return self.stand.celery(name, self.app, words, self.environment(name), self.python)

    @cached_property
    def _listener(self) -> socket.socket:
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(str(self.stand.ends))
        listener.listen()
        return listener

    @cached_property
    def _ends(self) -> socket.socket:
        """What its worker tells of each task's end. It is there: the worker has answered."""
        line, _ = self._listener.accept()
        # Not Python's own timeout: by that a read would return with the first record, and this process would wake up.
        line.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("ll", int(START), 0))
        return line

    def start(self) -> None:
        if self.timed:
            _ = self._listener  # there, before the worker is
        self._workers = {"worker": self.worker("worker", self.queues, self.stand.options.concurrency)}
        self._workers |= self.beside()
        for name in self.nodes():
            wait_for(lambda: self._ping(name), START, self._workers[name].tail)  # noqa: B023 - called at once

    def beside(self) -> Mapping[str, Process]:
        """Start what else belongs to the complete system."""
        return {}

    def nodes(self) -> tuple[str, ...]:
        """The processes that are Celery workers."""
        return ("worker",)

    def hold(self) -> None:
        for queue in self.queues:
            self.client.control.cancel_consumer(queue, destination=[_node("worker")], reply=True, timeout=5)
        time.sleep(BRPOP)

    def release(self) -> None:
        for queue in self.queues:
            self.client.control.add_consumer(queue, destination=[_node("worker")])

    def submit(self, count: int) -> None:
        for _ in range(count):
            self.publish(uuid.uuid4())
        self.started += count

    @abstractmethod
    def publish(self, saga_id: uuid.UUID) -> tuple[float, str]:
        """Start one saga; when it was asked for, and its id."""

    def drained(self) -> bool:
        """Whether no message waits and none is unacknowledged; seen twice, because one is in neither for a moment."""
        return self._no_message() and self._no_message()

    def _no_message(self) -> bool:
        pipe = self._redis.pipeline()
        for queue in self.queues:
            pipe.llen(queue)
        pipe.hlen("unacked")
        return not any(pipe.execute())

    def one(self) -> float:
        begun, saga_id = self.publish(uuid.uuid4())
        self.started += 1
        ends: list[float] = []
        # Nothing is asked, and this process sleeps until all have ended: what it did meanwhile would be measured, too.
        # The rows are checked at the end of the run.
        while (more := self.tasks() - len(ends)) > 0:
            lines = (line.partition(" ") for line in self._told(more * RECORD).splitlines())
            ends += [float(at) for of, _, at in lines if of == saga_id]  # some tasks of others name no saga
        return max(ends) - begun

    def _told(self, size: int) -> str:
        with suppress(BlockingIOError):
            if told := self._ends.recv(size, socket.MSG_WAITALL):
                return told.decode()
        raise TimeoutError(f"{self.name}: a saga has not ended within {START:g} s")

    def tasks(self) -> int:
        """Of one saga. Failing: the steps, the errback, and an undo of each step but the last."""
        return 2 * self.job.steps if self.job.fails else self.job.steps

    def message_bytes(self) -> int | None:
        message = self._redis.lindex(self.queues[0], 0)
        return None if message is None else len(message)

    def pids(self) -> dict[str, list[int]]:
        return {name: [process.main_pid] for name, process in self._workers.items()}

    def executed(self) -> dict[str, int]:
        """How many tasks of each name the worker has taken."""
        answers = self.client.control.inspect([_node("worker")], timeout=5).stats() or {}
        return dict(answers[_node("worker")]["total"])

    def close(self) -> None:
        for line in ("_ends", "_listener"):
            if line in self.__dict__:
                getattr(self, line).close()
        self.client.close()
        self._redis.close()

    def _ping(self, name: str) -> bool:
        if not self._workers[name].running():
            raise RuntimeError(f"{self.name}: its {name} ended: {last_line(self._workers[name].log_path)}")
        return bool(self.client.control.ping([_node(name)], timeout=1))


def _node(name: str) -> str:
    return f"{name}@{socket.gethostname()}"
