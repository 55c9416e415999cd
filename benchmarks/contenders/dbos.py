"""DBOS on the same PostgreSQL: by its queue, and by direct calls."""

from typing import Any, ClassVar

from benchmarks.contenders.base import Wrong
from benchmarks.contenders.on_postgres import CalledDirectly, Enqueued

FINAL = "SELECT count(*) FROM dbos.workflow_status WHERE status IN ('SUCCESS', 'ERROR')"
OF_ONE = "SELECT completed_at FROM dbos.workflow_status WHERE workflow_uuid = %s AND status IN ('SUCCESS', 'ERROR')"
ENDS = "SELECT status, count(*) FROM dbos.workflow_status GROUP BY status"
STEPS = "SELECT count(*), count(DISTINCT (workflow_uuid, function_id)) FROM dbos.operation_outputs"


class DbosQueue(Enqueued):
    """By its queue, which polls."""

    name = "dbos_queue"
    library = "dbos"
    app = "benchmarks.apps.dbos_app"
    # With these it was fastest here; its defaults are no limit (one process takes all) and 1 s.
    worker_concurrency: ClassVar[int] = 50
    polling: ClassVar[float] = 0.1
    queued: ClassVar[bool] = True

    def start(self) -> None:
        super().start()
        if self.queued:
            self.client = self.launch("client", "client")[1]

    def environment(self, role: str) -> dict[str, str]:
        return {
            **super().environment(role),
            "BENCH_QUEUE": str(int(self.queued)),
            "BENCH_WORKER_CONCURRENCY": str(self.worker_concurrency),
            "BENCH_POLLING": str(self.polling),
        }

    def finished(self) -> bool:
        return bool(self.rows(FINAL)[0][0] == self.started)

    def end_of(self, started: Any) -> float | None:
        found = self.rows(OF_ONE, started)
        return found[0][0] / 1000 if found else None

    def check(self) -> None:
        end = "ERROR" if self.job.fails else "SUCCESS"
        each = 2 * self.job.steps - 1 if self.job.fails else self.job.steps
        ends, steps = dict(self.rows(ENDS)), self.rows(STEPS)[0]
        if ends != {end: self.started} or set(steps) != {each * self.started}:
            raise Wrong(f"{self.name}: workflows {ends}, steps {steps} instead of {each * self.started}")


class DbosDirect(CalledDirectly, DbosQueue):
    """By direct calls."""

    name = "dbos_direct"
    queued = False
    at_once = 8

    def ended(self) -> bool:
        return DbosQueue.finished(self)


class DbosQueueFailing(DbosQueue):
    """Failing at its last step, the others undone in the workflow's own code."""

    name = "dbos_queue_failing"
    fails = True


class DbosDirectFailing(DbosDirect):
    """The same, by direct calls."""

    name = "dbos_direct_failing"
    fails = True
