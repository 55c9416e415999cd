"""Procrastinate on the same PostgreSQL: each job defers the next one; no record of the whole."""

from typing import Any

from benchmarks.contenders.base import Wrong
from benchmarks.contenders.on_postgres import PATIENCE, Enqueued
from tests.harness.wait import wait_for

DONE = "SELECT count(*) FROM procrastinate_jobs WHERE status = 'succeeded'"
LAST = "SELECT extract(epoch FROM max(at))::float8 FROM procrastinate_events WHERE type = 'succeeded'"
ENDS = "SELECT status::text, count(*), max(attempts) FROM procrastinate_jobs GROUP BY status"


class Procrastinate(Enqueued):
    """With its notifications on; a worker works on one job at a time, as a child of a pool does."""

    name = "procrastinate"
    library = "procrastinate"
    app = "benchmarks.apps.procrastinate_app"

    def start(self) -> None:
        super().start()
        self.client = self.launch("client", "client")[1]
        count = "SELECT count(*) FROM procrastinate_workers"
        wait_for(lambda: self.rows(count)[0][0] == len(self.workers), PATIENCE, "procrastinate's workers")

    def finished(self) -> bool:
        return bool(self.rows(DONE)[0][0] == self.started * self.job.steps)

    def end_of(self, started: Any) -> float | None:
        return float(self.rows(LAST)[0][0]) if self.finished() else None

    def check(self) -> None:
        expected = [("succeeded", self.started * self.job.steps, 1)]
        if (found := self.rows(ENDS)) != expected:
            raise Wrong(f"{self.name}: {found} instead of {expected}")
