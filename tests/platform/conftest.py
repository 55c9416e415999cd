"""The platform's rows on a fresh database, changed by the verbs themselves."""

import socket
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from functools import partial
from typing import Any

import pytest
from kombu import Connection, Queue
from sqlalchemy import Engine

from models import Records, transaction
from sagas import DomainEvent
from sagas.jobs.types import AssignmentId, JobCommand, JobId, ProviderId, WorkerId, WorkerSpec
from sagas.store.database import connect_engine
from sagas.store.store import Store
from tasks.celery import make_app
from tasks.messages import submit_job
from tasks.platform import Platform, platform_of
from tests.harness.celery_fixtures import StartBeat, StartWorker
from tests.harness.celery_nodes import WorkerProcess
from tests.harness.database import Query
from tests.harness.processes import Processes
from tests.platform.ports import FastAgents, TellingSender
from tests.platform.world import finished

SPEC = WorkerSpec("image:latest", "server:50051")
ECHO = JobCommand(("echo", "hi"))
HOST = socket.gethostname()

OpenRecords = Callable[[], AbstractContextManager[Records]]


class StoreEvents:
    """The engine's own way to write an event, without Celery."""

    def __init__(self, engine: Engine) -> None:
        self._store = Store(engine)

    def record_step_event(self, event: DomainEvent, *, session: Any = None) -> None:
        self._store.record_event(event, session=session)


class Rows:
    """Arranges rows: each method is one transaction."""

    def __init__(self, records: OpenRecords) -> None:
        self.records = records

    def provider(self, capacity: int = 2, host: str = HOST, **options: Any) -> ProviderId:
        with self.records() as records:
            return records.providers.register("process", host, capacity, **options)

    def ready_worker(self, provider_id: ProviderId, spec: WorkerSpec = SPEC) -> WorkerId:
        worker_id = WorkerId.new()
        with self.records() as records:
            records.workers.reserve(worker_id, provider_id, spec)
            token = records.workers.issue_token(worker_id)
            records.workers.created(worker_id, "pid 1")
            assert records.workers.register(worker_id, token, "instance")
            assert records.workers.ready(worker_id)
        return worker_id

    def job(self, **options: Any) -> JobId:
        with self.records() as records:
            return records.jobs.submit(options.pop("command", ECHO), **options)

    def assigned_job(self, worker_id: WorkerId) -> tuple[JobId, AssignmentId]:
        job_id, assignment_id = self.job(), AssignmentId.new()
        with self.records() as records:
            assert records.jobs.assign(job_id, worker_id, assignment_id)
            assert records.workers.occupy(worker_id)
        return job_id, assignment_id


@pytest.fixture
def records(database_url: str) -> Iterator[OpenRecords]:
    """`with records() as r`: a transaction with all verbs."""
    engine = connect_engine(database_url)
    yield partial(transaction, engine, StoreEvents(engine))
    engine.dispose()


@pytest.fixture
def make_platform(database_url: str, broker_url: str, processes: Processes) -> Iterator[Callable[..., Platform]]:
    """`make_platform(ports={...}, register_timeout=...)`: the platform in the test's own process, definitions written.

    Its home is that of the processes which the test starts. `engine.orchestrator.drive(saga_id)` runs a saga here.
    """
    made: list[Platform] = []

    def make(**options: Any) -> Platform:
        home = processes.directory / "hodei"
        given = {"database_url": database_url, "broker_url": broker_url, "home": home, "worker_beat": 0.5, **options}
        made.append(platform_of(make_app(**given)))
        made[-1].engine.register_definitions()
        return made[-1]

    yield make
    for platform in made:
        platform.engine.sql.dispose()
        platform.app.close()


@pytest.fixture
def platform(make_platform: Callable[..., Platform]) -> Platform:
    """The platform with its real ports; whoever needs workers starts them."""
    return make_platform()


@pytest.fixture
def inbox(broker_url: str) -> Callable[[object], list[tuple[str, dict[str, Any]]]]:
    """`inbox(worker_id)`: takes the messages to a worker from its queue: (verb, arguments)."""

    def take(worker_id: object) -> list[tuple[str, dict[str, Any]]]:
        taken = []
        with Connection(broker_url) as connection, connection.channel() as channel:
            queue = Queue(f"worker.{worker_id}", channel=channel)
            queue.declare()
            while (message := queue.get(no_ack=True)) is not None:
                taken.append((message.headers["task"].removeprefix("agent."), message.decode()[1]))
        return taken

    return take


@pytest.fixture
def sender() -> TellingSender:
    """Sends nothing; for platforms whose test binds it."""
    return TellingSender(lambda *_: None)


@pytest.fixture
def provider() -> FastAgents:
    """Its agents come up at once; for platforms whose test binds it."""
    return FastAgents()


@pytest.fixture
def rows(records: OpenRecords) -> Rows:
    return Rows(records)


@pytest.fixture
def events(query) -> Callable[[str], list[str]]:
    """`events("job:<id>")`: the types of the events of a stream, in order."""

    def read(stream: str) -> list[str]:
        found = query("SELECT event_type FROM saga_events WHERE stream = %s ORDER BY event_id", stream)
        return [row["event_type"] for row in found]

    return read


@pytest.fixture
def celery_environment(database_url: str, broker_url: str) -> dict[str, str]:
    """Agents of tests beat faster."""
    return {"HODEI_DATABASE_URL": database_url, "HODEI_BROKER_URL": broker_url, "HODEI_WORKER_BEAT": "0.5"}


@pytest.fixture
def system(platform: Platform, start_worker: StartWorker, start_beat: StartBeat) -> WorkerProcess:
    """A plain `celery -A tasks worker` and `celery -A tasks beat`: a complete system. The worker."""
    worker = start_worker("tasks", concurrency=3)
    start_beat("tasks")
    return worker


@pytest.fixture
def run(platform: Platform, query: Query) -> Callable[..., dict[str, Any]]:
    """Submit a command and wait for the end of its job: its row."""

    def submit_and_wait(*argv: str, **options: Any) -> dict[str, Any]:
        return finished(query, submit_job(platform, JobCommand(argv, **options)))

    return submit_and_wait
