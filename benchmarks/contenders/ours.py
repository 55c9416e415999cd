"""Ours, the complete system: a worker of the steps, a small one of the engine's own messages, and beat."""

import time
import uuid
from collections.abc import Mapping
from functools import cached_property
from typing import Any, ClassVar

from benchmarks.contenders.base import Wrong
from benchmarks.contenders.celery_workers import CeleryContender
from benchmarks.servers import named
from sagas import SagaClient
from tests.harness.pgbouncer import PgBouncer, binary
from tests.harness.processes import Process

OPEN = "SELECT EXISTS (SELECT FROM saga_instances WHERE state IN ('PENDING', 'IN_PROGRESS', 'COMPENSATING'))"
ENDS = "SELECT state, count(*) FROM saga_instances WHERE started_at >= %s GROUP BY state"
UNDELIVERED = "SELECT EXISTS (SELECT FROM saga_deliveries WHERE state = 'OPEN')"
DELIVERED = "SELECT count(*) FROM saga_deliveries WHERE state = 'DONE' AND created_at >= %s"
MESSAGES = "SELECT count(*) FROM saga_instances WHERE state = 'PENDING' AND brought_by IS NULL"
STEPS = """
SELECT t.state, attempt, undo_attempt, count(*) FROM saga_steps t JOIN saga_instances s USING (saga_id)
WHERE s.started_at >= %s GROUP BY t.state, attempt, undo_attempt ORDER BY 1, 2, 3
"""


class Ours(CeleryContender):
    """With its defaults: local continuation on. What waits is started by `start_many`."""

    name = "ours"
    app = "benchmarks.apps.ours"
    queues = ("steps", "compensations")
    continuation: ClassVar[int | None] = None

    def start(self) -> None:
        self._since = self._rows("SELECT saga_now()")[0][0]
        super().start()

    def environment(self, name: str) -> dict[str, str]:
        env = {**super().environment(name), "HODEI_BROKER_URL": self.stand.servers.broker.url}
        env["HODEI_DATABASE_URL"] = named(self.stand.database_url, name)
        if self.alone:
            # Heartbeats are by the clock, not by the saga: the first one at the start, then none while we count.
            env |= {"HODEI_NODE_BEAT": "600", "HODEI_NODE_DEAD": "1800"}
        return env if self.continuation is None else {**env, "HODEI_CONTINUATION_MS": str(self.continuation)}

    def beside(self) -> Mapping[str, Process]:
        if self.alone:
            return {}
        control = self.worker("control", ("control", "events"), 1)
        words = ["beat", "-l", "WARNING", "-s", str(self.stand.processes.directory / "beat"), "--pidfile="]
        return {"control": control, "beat": self.stand.celery("beat", self.app, words, self.environment("beat"))}

    def nodes(self) -> tuple[str, ...]:
        return ("worker",) if self.alone else ("worker", "control")

    @cached_property
    def _sagas(self) -> SagaClient:
        return SagaClient(app=self.client, database_url=named(self.stand.database_url, "client"))

    @cached_property
    def _connection(self) -> Any:
        import psycopg2

        from tests.harness.servers import libpq_url

        connection = psycopg2.connect(libpq_url(named(self.stand.database_url, "bench")))
        connection.autocommit = True
        return connection

    def publish(self, saga_id: uuid.UUID) -> tuple[float, str]:
        # A claim that comes before its saga's rows asks again (decision 0019), by the clock as heartbeats do: where we
        # count, the message goes out after them.
        key = str(saga_id) if self.alone else None
        begun = time.time()
        return begun, str(self._sagas.start("bench", {}, idempotency_key=key).saga_id)

    def submit(self, count: int) -> None:
        """By `start_many`."""
        self._sagas.start_many("bench", [{}] * count)
        self.started += count

    def waiting_messages(self) -> int:
        """That the sagas which have not begun were started with: one message may bring several (decision 0014)."""
        return int(self._rows(MESSAGES)[0][0])

    def finished(self) -> bool:
        # The database is asked last: asked all the time it would be measured.
        return self.drained() and not self._rows(OPEN)[0][0]

    def check(self) -> None:
        end, step = ("COMPENSATED", "COMPENSATED") if self.job.fails else ("COMPLETED", "COMPLETED")
        expected = [(step, 1, 0, self.started * self.job.steps)]
        if self.job.fails:
            expected = [(step, 1, 1, self.started * (self.job.steps - 1)), ("FAILED", 1, 0, self.started)]
        states, steps = dict(self._rows(ENDS, self._since)), self._rows(STEPS, self._since)
        if states != {end: self.started} or steps != expected:
            raise Wrong(f"{self.name}: sagas {states}, steps {steps} instead of {expected}")

    def close(self) -> None:
        self._connection.close()
        super().close()

    def _rows(self, statement: str, *values: object) -> list[tuple[Any, ...]]:
        with self._connection.cursor() as cursor:
            cursor.execute(statement, values or None)
            return list(cursor.fetchall())


class OursSingle(Ours):
    """Each saga by its own `start`, and so by its own message."""

    name = "ours_single"

    def submit(self, count: int) -> None:
        CeleryContender.submit(self, count)


class OursMessages(OursSingle):
    """One message a step: local continuation off."""

    name = "ours_messages"
    continuation = 0


class OursFailing(Ours):
    """Failing at its last step, the others undone in reverse."""

    name = "ours_failing"
    fails = True


class OursPooled(Ours):
    """Its workers' statements go through a PgBouncer in transaction mode, on its defaults."""

    name = "ours_pgbouncer"
    _pooler: PgBouncer | None = None

    def start(self) -> None:
        if binary() is None:
            raise RuntimeError("pgbouncer is not installed (apt-get install pgbouncer)")
        self._pooler = PgBouncer(self.stand.processes, self.stand.servers.postgres, pool=20, further="")
        super().start()

    def environment(self, name: str) -> dict[str, str]:
        assert self._pooler is not None
        pooled = self._pooler.url(self.stand.database_url)
        return {**super().environment(name), "HODEI_DATABASE_URL": named(pooled, name)}

    def beside(self) -> Mapping[str, Process]:
        assert self._pooler is not None
        return {**super().beside(), "pooler": self._pooler.process}

    def close(self) -> None:
        super().close()
        if self._pooler is not None:  # not even started: there is none on this machine
            self._pooler.remove()


class OursSubscribed(Ours):
    """With a subscriber that wants each step's event: one more task a step, on the control worker (`upkeep`)."""

    name = "ours_subscribed"

    def environment(self, name: str) -> dict[str, str]:
        return {**super().environment(name), "BENCH_SUBSCRIBED": "1"}

    def finished(self) -> bool:
        return super().finished() and not self._rows(UNDELIVERED)[0][0]

    def check(self) -> None:
        super().check()
        ((delivered,),) = self._rows(DELIVERED, self._since)
        if delivered != self.started * self.job.steps:
            raise Wrong(f"{self.name}: {delivered} events delivered of {self.started} sagas")
