"""Fixtures that start Celery's processes; with the names of pytest-celery, its `celery_setup` runs on them too."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import pytest
from pytest_celery import CeleryBrokerCluster, CeleryWorkerCluster

from tests.harness.celery_nodes import CeleryProcesses, System, WorkerOptions, WorkerProcess
from tests.harness.processes import Process, Processes
from tests.harness.pytest_celery_nodes import ProcessBroker, ProcessSetup, ProcessWorker
from tests.harness.servers import BrokerServer

if TYPE_CHECKING:
    from sagas import SagaClient

SCENARIO = "tests.harness.scenario"

StartWorker = Callable[..., WorkerProcess]
StartSystem = Callable[..., System]
StartBeat = Callable[..., Process]
StartFlower = Callable[..., str]


@pytest.fixture
def celery_environment(request: pytest.FixtureRequest, database_url: str, broker_url: str) -> dict[str, str]:
    """What every Celery process of the test finds in its environment.

    The sagas are those of `tests.harness.scenario`, or those of `@pytest.mark.saga_modules("shop.sagas", ...)`.
    """
    marker = request.node.get_closest_marker("saga_modules")
    modules = marker.args if marker else (SCENARIO,)
    servers = {"HODEI_DATABASE_URL": database_url, "HODEI_BROKER_URL": broker_url}
    return {**servers, "HODEI_SAGA_MODULES": ",".join(modules)}


@pytest.fixture
def celery_processes(processes: Processes, celery_environment: dict[str, str]) -> CeleryProcesses:
    """Worker, beat and Flower with all options; the three factories below are its short forms."""
    return CeleryProcesses(processes, celery_environment)


@pytest.fixture
def start_worker(celery_processes: CeleryProcesses) -> StartWorker:
    """`start_worker(app="tasks", queues=None, concurrency=1, name=None, env=None, wait=True, ...) -> WorkerProcess`.

    Returns when the worker consumes. All of `WorkerOptions` are keywords.
    """

    def start(
        app: str = "tasks",
        queues: Iterable[str] | None = None,
        env: Mapping[str, str] | None = None,
        wait: bool = True,
        **options: Any,
    ) -> WorkerProcess:
        return celery_processes.worker(WorkerOptions(app, queues, env=env or {}, **options), wait)

    return start


@pytest.fixture
def start_system(celery_processes: CeleryProcesses) -> StartSystem:
    """`start_system(app="tasks", concurrency=2, env=None) -> System(steps, control, beat)`, all of them ready."""
    return celery_processes.system


@pytest.fixture
def saga_client(database_url: str, broker_url: str) -> "SagaClient":
    """A client of the test's own system, with its database."""
    from sagas import SagaClient  # here: it loads Celery and SQLAlchemy

    return SagaClient(broker_url, database_url=database_url)


@pytest.fixture
def start_beat(celery_processes: CeleryProcesses) -> StartBeat:
    """`start_beat(app="tasks", env=None, name="beat") -> Process`."""
    return celery_processes.beat


@pytest.fixture
def start_flower(celery_processes: CeleryProcesses) -> StartFlower:
    """`start_flower(app="tasks", env=None, arguments=()) -> url`."""
    return celery_processes.flower


# --- pytest-celery's own names -----------------------------------------------------------------------------------


@pytest.fixture
def celery_setup_cls() -> type[ProcessSetup]:
    """pytest-celery's setup on processes."""
    return ProcessSetup


@pytest.fixture
def celery_broker(broker_server: BrokerServer) -> Iterator[ProcessBroker]:
    """The broker node."""
    broker = ProcessBroker(broker_server)
    yield broker
    broker.teardown()


@pytest.fixture
def celery_broker_cluster(celery_broker: ProcessBroker) -> CeleryBrokerCluster:
    """The one broker."""
    return CeleryBrokerCluster(celery_broker)


@pytest.fixture
def celery_backend_cluster() -> None:
    """No backend node: the broker's Valkey keeps what results there are."""


@pytest.fixture
def celery_backend_cluster_config() -> None:
    """No backend node."""


@pytest.fixture
def celery_worker_cluster(
    request: pytest.FixtureRequest, celery_processes: CeleryProcesses, celery_broker_cluster: CeleryBrokerCluster
) -> CeleryWorkerCluster:
    """Workers as `@pytest.mark.worker(app=..., queues=..., count=1)` says (the nearest marker of the test counts)."""
    marker = request.node.get_closest_marker("worker")
    options = dict(marker.kwargs if marker else {})
    count = options.pop("count", 1)
    started = [celery_processes.worker(WorkerOptions(**options), wait=False) for _ in range(count)]
    for worker in started:
        worker.wait_ready()
    return CeleryWorkerCluster(*(ProcessWorker(worker) for worker in started))


@pytest.fixture
def celery_worker(celery_worker_cluster: CeleryWorkerCluster) -> ProcessWorker:
    """The first worker node."""
    worker: ProcessWorker = celery_worker_cluster[0]
    return worker
