"""The servers of a session: a PostgreSQL that waits for its disk, and a Valkey; and what is asked of them."""

import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sagas.cli.plans import plan_postgres
from tests.harness.database import Databases
from tests.harness.servers import BrokerServer, PostgresServer, Server

SHOWN = (
    "server_version",
    "fsync",
    "synchronous_commit",
    "full_page_writes",
    "wal_sync_method",
    "shared_buffers",
    "commit_delay",
)
DURABLE = ("fsync", "synchronous_commit", "full_page_writes")
# One line a statement, told by its client's name, its process and its database (`counts` reads them).
LOG_PREFIX = "%a|%p|%d|"


class DurablePostgres(PostgresServer):
    """PostgreSQL with its own defaults, its data in `directory`: /tmp may be memory."""

    def __init__(self, directory: Path) -> None:
        settings = {"log_line_prefix": LOG_PREFIX, "track_wal_io_timing": "off"}
        words = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
        Server.__init__(self, plan_postgres(directory), words)


@dataclass(frozen=True)
class Servers:
    """Both, running."""

    postgres: DurablePostgres
    broker: BrokerServer
    databases: Databases

    def settings(self) -> dict[str, str]:
        """What the servers are, as they say themselves. Raises RuntimeError if a commit would not be durable."""
        shown = {name: str(self.ask(f"SHOW {name}")) for name in SHOWN}
        if any(shown[name] != "on" for name in DURABLE):
            raise RuntimeError(f"this PostgreSQL does not wait for its disk: {shown}")
        with self.broker.client() as client:
            info = client.info("server")
        return {
            **shown,
            "broker": f"{info.get('server_name', 'redis')} {info.get('valkey_version', info['redis_version'])}",
        }

    def ask(self, statement: str, database: str = "postgres") -> Any:
        """The first column of the one row."""
        connection = self.postgres.connect(database)
        try:
            with connection.cursor() as cursor:
                cursor.execute(statement)
                return cursor.fetchone()[0]
        finally:
            connection.close()


@contextmanager
def running(directory: Path) -> Iterator[Servers]:
    """Both servers, with their data below `directory`; stopped and deleted at the end, however it comes."""
    directory.mkdir(parents=True, exist_ok=True)
    postgres = DurablePostgres(Path(tempfile.mkdtemp(prefix="postgres-", dir=directory)))
    try:
        broker = BrokerServer()
        try:
            postgres.start()
            broker.start()
            yield Servers(postgres, broker, Databases(postgres))
        finally:
            broker.remove()
    finally:
        postgres.remove()


def named(url: str, application: str) -> str:
    """The URL for a client of that name: PostgreSQL's log tells who asked."""
    return re.sub(r"[?&]application_name=[^&]*", "", url) + f"&application_name={application}"
