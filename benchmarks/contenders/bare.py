"""A Celery `chain` of trivial tasks without results: what has no durability to pay for."""

import time
import uuid
from typing import Any

from celery import chain

from benchmarks.contenders.base import Wrong
from benchmarks.contenders.celery_workers import CeleryContender


class Bare(CeleryContender):
    """The measure of all others."""

    name = "bare"
    app = "benchmarks.apps.bare"
    queues = ("celery",)

    def publish(self, saga_id: uuid.UUID) -> tuple[float, str]:
        begun = time.time()
        steps = [self._task("step", saga_id, number) for number in range(1, self.job.steps + 1)]
        if self.job.fails:
            steps[-1] = self._task("fail", saga_id, self.job.steps)
            back = self.client.signature("bench.go_back", kwargs={"saga_id": str(saga_id)}, immutable=True)
            chain(*steps, app=self.client).apply_async(link_error=back)
        else:
            chain(*steps, app=self.client).apply_async()
        return begun, str(saga_id)

    def _task(self, name: str, saga_id: uuid.UUID, number: int) -> Any:
        kwargs = {"saga_id": str(saga_id), "number": number}
        return self.client.signature(f"bench.{name}", kwargs=kwargs, immutable=True)

    def finished(self) -> bool:
        return self.drained()

    def check(self) -> None:
        steps, all_but_last = self.job.steps * self.started, (self.job.steps - 1) * self.started
        expected = {"bench.step": steps}
        if self.job.fails:
            expected = {
                "bench.step": all_but_last,
                "bench.fail": self.started,
                "bench.go_back": self.started,
                "bench.undo": all_but_last,
            }
        if (found := self.executed()) != expected:
            raise Wrong(f"bare: {found} instead of {expected}")


class BareFailing(Bare):
    """Failing at its last step, whose `link_error` starts a reverse chain."""

    name = "bare_failing"
    fails = True
