"""celery-saga 0.1: the record of each saga is one JSON value in Redis, rewritten by each of its tasks."""

import json
import uuid
from typing import Any

from benchmarks.apps.driver import Driver
from benchmarks.contenders.base import Wrong
from benchmarks.contenders.celery_workers import CeleryContender
from benchmarks.environments import python_of


class CelerySaga(CeleryContender):
    """In the same broker's memory, which is its fastest store; it has none that waits for a disk."""

    name = "celery_saga"
    app = "benchmarks.apps.celery_saga"
    queues = ("celery",)

    def start(self) -> None:
        self.python = python_of("celery_saga", self.stand.options.cache)
        path = str(self.stand.processes.directory / "driver")
        process = self.stand.start("driver", [self.python, "-m", self.app, path], self.environment("driver"))
        self._driver = Driver(path, process.running)
        super().start()

    def submit(self, count: int) -> None:
        self._driver.call("start", count)
        self.started += count

    def publish(self, saga_id: uuid.UUID) -> tuple[float, str]:
        begun, started = self._driver.call("start", 1)
        return begun, started

    def finished(self) -> bool:
        return self.drained()

    def tasks(self) -> int:
        """Besides: start and completion."""
        return super().tasks() + 2

    def check(self) -> None:
        end = "compensated" if self.job.fails else "completed"
        steps = ["success"] * self.job.steps
        if self.job.fails:
            steps = ["compensated"] * (self.job.steps - 1) + ["failed"]
        records: list[dict[str, Any]] = [json.loads(self._redis.get(key)) for key in self._redis.keys("celery_saga:*")]
        wrong = [r for r in records if r["status"] != end or [step["status"] for step in r["steps"]] != steps]
        if wrong or len(records) != self.started:
            raise Wrong(f"{self.name}: {len(records)} of {self.started} records, {len(wrong)} wrong: {wrong[:1]}")
        if (ran := self.executed()["celery_saga.run_step"]) != self.started * self.job.steps:
            raise Wrong(f"{self.name}: {ran} steps")

    def close(self) -> None:
        self._driver.close()
        super().close()


class CelerySagaFailing(CelerySaga):
    """Failing at its last step."""

    name = "celery_saga_failing"
    fails = True
