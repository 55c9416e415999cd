"""A PgBouncer in transaction mode before the session's PostgreSQL, with fewer connections than there are clients."""

import os
import shutil
import tempfile
from pathlib import Path
from urllib.parse import parse_qs, quote, urlsplit

import psycopg2

from sagas.cli.unprivileged import unprivileged
from tests.harness.database import database_name
from tests.harness.processes import Process, Processes
from tests.harness.servers import PostgresServer, libpq_url
from tests.harness.wait import wait_for

PORT = 6432
POOL = 3
"""Connections to the server, for the five and more processes of a system."""
CONFIGURATION = """
[databases]
* = host={sockets} port=5432 user=hodei
[pgbouncer]
listen_addr =
listen_port = {port}
unix_socket_dir = {directory}
auth_type = any
pool_mode = transaction
default_pool_size = {pool}
max_client_conn = 200
"""
FORGETFUL = """
; Nothing of a session outlives its transaction: without this the connections to the server would soon all carry the
; same SET of the same clients, and hide who relies on one.
server_reset_query = DISCARD ALL
server_reset_query_always = 1
"""


def binary() -> str | None:
    """Where PgBouncer is; Debian's package puts it beside what only root may run."""
    return shutil.which("pgbouncer", path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/usr/local/sbin")


class PgBouncer:
    """One running pooler; it ends with the processes of its test. `further`: lines of its configuration."""

    def __init__(
        self, processes: Processes, server: PostgresServer, pool: int = POOL, further: str = FORGETFUL
    ) -> None:
        program = binary()
        assert program is not None
        # Not in pytest's tmp_path: the server's user may not enter it, and socket paths must be short.
        self.directory = Path(tempfile.mkdtemp(prefix="hodei-pgb-"))
        sockets = parse_qs(urlsplit(server.url("postgres")).query)["host"][0]
        file = self.directory / "pgbouncer.ini"
        file.write_text(CONFIGURATION.format(sockets=sockets, port=PORT, directory=self.directory, pool=pool) + further)
        account = unprivileged(Path(program).parent, self.directory)
        account.give(self.directory)
        user = ["-u", account.user] if account.user else []
        self.process: Process = processes.start("pgbouncer", [*account.prefix, program, *user, str(file)])
        wait_for(lambda: self._answers(server), 15, self.process.tail)

    def url(self, url: str) -> str:
        """SQLAlchemy's URL of that database through the pooler."""
        return f"postgresql+psycopg2://hodei@/{database_name(url)}?host={quote(str(self.directory))}&port={PORT}"

    def remove(self) -> None:
        self.process.stop()
        shutil.rmtree(self.directory, ignore_errors=True)

    def _answers(self, server: PostgresServer) -> bool:
        try:
            psycopg2.connect(libpq_url(self.url(server.url("postgres"))), connect_timeout=5).close()
        except psycopg2.OperationalError:
            return False
        return True
