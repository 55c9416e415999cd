"""Fixtures of every test. Nothing is started before a test asks for it."""

from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any, TypeVar

import pytest

from tests.harness.database import Databases, Kind, MakeDatabase, Query
from tests.harness.effects import URL_VARIABLE, Effects
from tests.harness.processes import Processes
from tests.harness.servers import BrokerServer, PostgresServer, Server

pytest_plugins = ["pytester", "tests.harness.celery_fixtures"]

REPORT = pytest.StashKey[list[Processes]]()


def pytest_configure(config: pytest.Config) -> None:
    """Register the harness's markers."""
    config.addinivalue_line("markers", "database(kind): `database_url` is `empty`, `engine` or `full` (the default)")
    config.addinivalue_line("markers", "saga_modules(*names): HODEI_SAGA_MODULES of the test's Celery processes")
    config.addinivalue_line("markers", "worker(**options): WorkerOptions of pytest-celery's worker; `count` of them")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A failed test shows the tail of the logs of the processes it started."""
    report = yield
    if report.failed:
        for processes in item.stash.get(REPORT, []):
            report.sections += processes.report()
    return report


# --- servers: one set for a session, so one for each worker of xdist ----------------------------------------------


S = TypeVar("S", bound=Server)


def _running(server: S) -> Iterator[S]:
    try:
        server.start()
        yield server
    finally:
        server.remove()


@pytest.fixture(scope="session")
def _postgres() -> Iterator[PostgresServer]:
    yield from _running(PostgresServer())


@pytest.fixture(scope="session")
def _valkey() -> Iterator[BrokerServer]:
    yield from _running(BrokerServer())


@pytest.fixture(scope="session")
def _databases(_postgres: PostgresServer) -> Databases:
    return Databases(_postgres)


@pytest.fixture
def postgres_server(_postgres: PostgresServer) -> PostgresServer:
    """The running PostgreSQL, which a test may kill, pause and start again: the next test finds it running."""
    _postgres.resume()
    _postgres.start()
    return _postgres


@pytest.fixture
def broker_server(_valkey: BrokerServer) -> BrokerServer:
    """The running Valkey, empty, which a test may kill, pause and start again: the next test finds it running."""
    _valkey.resume()
    _valkey.start()
    _valkey.flush()
    return _valkey


# --- what a test works on ----------------------------------------------------------------------------------------


@pytest.fixture
def make_database(postgres_server: PostgresServer, _databases: Databases) -> Iterator[MakeDatabase]:
    """`make_database(kind="full") -> url`: more fresh databases, dropped at the end."""
    urls: list[str] = []

    def make(kind: Kind = "full") -> str:
        urls.append(_databases.create(kind))
        return urls[-1]

    yield make
    postgres_server.resume()
    postgres_server.start()
    for url in urls:
        _databases.drop(url)


@pytest.fixture
def database_url(request: pytest.FixtureRequest, make_database: MakeDatabase) -> str:
    """SQLAlchemy's URL of a fresh, migrated database; `@pytest.mark.database("engine" or "empty")` for another kind."""
    marker = request.node.get_closest_marker("database")
    return make_database(*(marker.args if marker else ()))


@pytest.fixture
def query(database_url: str) -> Query:
    """`query(sql, *values) -> list[dict]`, `query.value(...)`, `query.connect()` on `database_url`."""
    return Query(database_url)


@pytest.fixture
def broker_url(broker_server: BrokerServer) -> str:
    """kombu's URL of the emptied broker."""
    return broker_server.url


@pytest.fixture(scope="session")
def _effects_url() -> Iterator[str]:
    yield from (server.url("postgres") for server in _running(PostgresServer()))


@pytest.fixture
def effects(_effects_url: str, monkeypatch: pytest.MonkeyPatch) -> Effects:
    """The effects log, empty; its address is in the environment of this process and of all that are started."""
    monkeypatch.setenv(URL_VARIABLE, _effects_url)
    log = Effects(_effects_url)
    log.prepare()
    return log


@pytest.fixture
def processes(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Processes]:
    """Starts child processes; whatever they are at the end, they and all they started are killed."""
    started = Processes(tmp_path)
    stash: dict[Any, Any] = request.node.stash
    request.node.stash[REPORT] = [*stash.get(REPORT, []), started]
    yield started
    started.stop()
