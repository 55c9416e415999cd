"""What contenders that run on Celery's workers share."""

import os
import select
import socket
import sys
import time
import uuid
from abc import abstractmethod
from collections.abc import Mapping
from functools import cached_property
from typing import Any, ClassVar

from celery import Celery

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
        return {**env, "BENCH_ENDS": str(self.stand.ends)} if self.timed else env

    def worker(self, name: str, queues: tuple[str, ...], concurrency: int) -> Process:
        """Start a worker; `start` waits for it."""
        options = self.stand.options
        words = ["worker", "-n", _node(name), "-Q", ",".join(queues), "-c", str(concurrency), "-P", "prefork"]
        words += [f"--prefetch-multiplier={options.prefetch}", "-l", "WARNING", "--without-mingle", "--without-gossip"]
        words += ["-E"] if options.events else []
        return self.stand.celery(name, self.app, words, self.environment(name), self.python)

    @cached_property
    def _ends(self) -> int:
        """Read what each task's end writes, one line at once (pipe(7))."""
        os.mkfifo(self.stand.ends)
        # For writing, too: it is not at its end while nobody else writes.
        return os.open(self.stand.ends, os.O_RDWR)

    def start(self) -> None:
        if self.timed:
            _ = self._ends  # there, before anybody writes
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
        deadline = time.monotonic() + START
        while len(ends) < self.tasks():
            # Nothing is asked, and this process sleeps: what it did meanwhile would be measured, too. The rows are
            # checked at the end of the run.
            if not select.select([self._ends], [], [], max(0.0, deadline - time.monotonic()))[0]:
                raise TimeoutError(f"{self.name}: a saga has not ended within {START:g} s")
            lines = (line.partition(" ") for line in os.read(self._ends, 65536).decode().splitlines())
            ends += [float(at) for of, _, at in lines if of == saga_id]
        return max(ends) - begun

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
        if self.timed:
            os.close(self._ends)
        self.client.close()
        self._redis.close()

    def _ping(self, name: str) -> bool:
        if not self._workers[name].running():
            raise RuntimeError(f"{self.name}: its {name} ended: {last_line(self._workers[name].log_path)}")
        return bool(self.client.control.ping([_node(name)], timeout=1))


def _node(name: str) -> str:
    return f"{name}@{socket.gethostname()}"
