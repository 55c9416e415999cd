"""What is done to a running system: each kind of kill and outage is one method, its victim drawn by the plan."""

import json
import os
import signal as signals
import time
import uuid
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import psutil
import redis
from celery import Celery
from kombu.exceptions import OperationalError

from tests.chaos.plan import KILLS, Disruption
from tests.chaos.system import System
from tests.harness.celery_nodes import WorkerProcess
from tests.harness.scenario import STEPS
from tests.harness.system import alive

LONGER_THAN_A_LEASE = 12.5
"""Seconds; the brief steps have a limit of 1 s and the engine's margin of 10 s."""
QUEUES = ("steps", "compensations", "control")


@dataclass
class Done:
    """One disruption as it happened. `hit`: a kill's victim held a claim."""

    kind: str
    at: datetime
    hit: bool = False
    pids: list[int] = field(default_factory=list)
    detail: str = ""


class Disruptor:
    """Does the disruptions of a plan, and remembers them for the oracle."""

    def __init__(self, system: System) -> None:
        self.system = system
        self.done: list[Done] = []
        self.app = Celery("chaos", broker=system.servers.broker.url, set_as_current=False)

    def __call__(self, disruption: Disruption) -> Done:
        done = Done(disruption.kind, datetime.now(UTC))
        self.done.append(done)
        getattr(self, f"_{disruption.kind}")(disruption, done)
        return done

    @property
    def kills(self) -> list[Done]:
        return [one for one in self.done if one.kind in KILLS]

    # --- kills -------------------------------------------------------------------------------------------------------

    def _child(self, disruption: Disruption, done: Done) -> None:
        """One pool child; one that holds a claim, if there is any within ten seconds."""
        until = time.monotonic() + 10
        while time.monotonic() < until:
            claims = [claim for claim in self.system.claims() if self._is_child(claim["claim_pid"])]
            if not claims:
                self.system.tend(0.02)
                continue
            claim = claims[int(disruption.choice * len(claims))]
            if self._kill_if_claiming(claim["claim_pid"], done):
                return
        children = [pid for worker in self.system.free_workers() for pid in worker.child_pids()]
        if children:
            self._end(children[int(disruption.choice * len(children))], done)

    def _kill_if_claiming(self, pid: int, done: Done) -> bool:
        """Stopped first, so that what it holds is certain when it dies."""
        with suppress(ProcessLookupError):
            os.kill(pid, signals.SIGSTOP)
            held = [claim for claim in self.system.claims() if claim["claim_pid"] == pid]
            if held:
                claim = held[0]
                done.hit = True
                done.detail = (
                    f"{claim['phase']} {claim['step_name']} of {claim['saga_id']}, attempt {claim['attempt_id']}"
                )
                self._end(pid, done)
                return True
            os.kill(pid, signals.SIGCONT)
        return False

    def _end(self, pid: int, done: Done) -> None:
        done.at = datetime.now(UTC)
        done.pids = [pid]
        # Its own plan may be quicker: what is dead by now is no process of this system any more.
        with suppress(psutil.NoSuchProcess, AssertionError):
            self.system.processes.kill(pid)

    def _is_child(self, pid: int) -> bool:
        return any(pid in worker.child_pids() for worker in self.system.free_workers())

    def _worker(self, disruption: Disruption, done: Done) -> None:
        self._kill_worker(disruption, done, main_only=False)

    def _main(self, disruption: Disruption, done: Done) -> None:
        self._kill_worker(disruption, done, main_only=True)

    def _kill_worker(self, disruption: Disruption, done: Done, main_only: bool) -> None:
        """A step worker, one with claims if there is any within six seconds; started again later."""
        until = time.monotonic() + 6
        while (victim := self._stopped_worker(disruption)) is not None:
            pids = victim.session_pids()
            done.hit = bool({claim["claim_pid"] for claim in self.system.claims()} & set(pids))
            if done.hit or time.monotonic() > until:
                break
            victim.resume()
            self.system.tend(0.05)
        if victim is None:
            return
        done.at, done.detail = datetime.now(UTC), victim.name
        done.pids = [victim.main_pid] if main_only else pids
        self.system.kill(victim, disruption.length, main_only)
        for pid in pids if main_only else []:
            if alive(pid):
                os.kill(pid, signals.SIGCONT)  # orphans go on with what they have begun

    def _stopped_worker(self, disruption: Disruption) -> WorkerProcess | None:
        """A step worker, stopped so that what it holds is certain; a busy one if there is any. None: all are down."""
        claiming = {claim["claim_pid"] for claim in self.system.claims()}
        workers = self.system.free_workers()
        victims = [worker for worker in workers if claiming & set(worker.child_pids())] or workers
        if not victims:
            return None
        victim = victims[int(disruption.choice * len(victims))]
        victim.pause()
        return victim

    def _beat(self, disruption: Disruption, done: Done) -> None:
        for beat in self.system.beats:
            self.system.kill(beat, disruption.length)

    def _control(self, disruption: Disruption, done: Done) -> None:
        for control in self.system.controls:
            done.pids += control.session_pids()
            self.system.kill(control, disruption.length)

    # --- outages -----------------------------------------------------------------------------------------------------

    def _pause(self, disruption: Disruption, done: Done) -> None:
        """A step worker stands still for longer than a lease, while everything else goes on."""
        workers = self.system.free_workers()
        if workers:
            victim = workers[int(disruption.choice * len(workers))]
            done.detail = victim.name
            self.system.pause(victim, LONGER_THAN_A_LEASE)

    def _flush(self, disruption: Disruption, done: Done) -> None:
        with suppress(redis.RedisError):
            self.system.servers.broker.flush()

    def _broker_crash(self, disruption: Disruption, done: Done) -> None:
        self.system.servers.broker.kill()
        self.system.later(disruption.length, self.system.servers.broker.start)

    def _postgres_crash(self, disruption: Disruption, done: Done) -> None:
        """One backend of the engine dies by SIGKILL: crash recovery, asynchronous commits may be gone (R13)."""
        rows = self.system.ask(
            "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'hodei'"
        )
        if rows:
            done.at = datetime.now(UTC)
            self.system.servers.postgres.crash_backend(rows[int(disruption.choice * len(rows))]["pid"])

    def _postgres_restart(self, disruption: Disruption, done: Done) -> None:
        self.system.servers.postgres.stop()
        self.system.tend(disruption.length)
        self.system.servers.postgres.start()

    def _postgres_pause(self, disruption: Disruption, done: Done) -> None:
        self.system.servers.postgres.pause()
        self.system.tend(disruption.length)
        self.system.servers.postgres.resume()

    def _duplicate(self, disruption: Disruption, done: Done) -> None:
        """Queued messages again, two to five times in all, and messages of steps that are not due at all."""
        with suppress(redis.RedisError):
            done.detail = f"{self._queued_again(1 + int(disruption.choice * 4))} queued messages"
        rows = self.system.ask("SELECT saga_id::text, saga_type, state FROM saga_instances ORDER BY md5(saga_id::text)")
        for row in (rows or [])[:10]:
            self.stray(row)

    def _queued_again(self, copies: int) -> int:
        count = 0
        with self.system.servers.broker.client() as client:
            for queue in QUEUES:
                for raw in client.lrange(queue, 0, 19):
                    message: dict[str, Any] = json.loads(raw)
                    for _ in range(copies):
                        message["properties"]["delivery_tag"] = str(uuid.uuid4())
                        client.lpush(queue, json.dumps(message))
                        count += 1
        return count

    def stray(self, row: dict[str, Any]) -> None:
        """Every message that a saga can have, now."""
        names = [f"{row['saga_type']}.{step}" for step in STEPS]
        for name in names:
            self._send(name, row["saga_id"], "steps")
        for name in [f"{name}.compensate" for name in names] + ["sagas.compensate"]:
            self._send(name, row["saga_id"], "compensations")

    def _send(self, task: str, saga_id: str, queue: str) -> None:
        with suppress(OperationalError):
            self.app.send_task(task, kwargs={"saga_id": saga_id}, queue=queue, ignore_result=True, retry=False)
