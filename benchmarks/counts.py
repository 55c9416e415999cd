"""What can be counted without a clock: statements, transactions, WAL, broker commands and bytes, CPU."""

import re
from collections import Counter
from dataclasses import dataclass
from typing import Any

from benchmarks.contenders.base import Contender
from benchmarks.servers import Servers
from benchmarks.stand import cpu_seconds
from tests.harness.database import database_name

SETTLE = 11.0
"""Seconds after which an idle backend of PostgreSQL has told what it did (ten, says its source)."""
OUR_OWN = ("llen", "hlen", "lindex", "info", "ping", "flushall")
"""Broker commands that only the benchmark itself sends."""
STATEMENT = re.compile(
    r"^(?P<name>[^|\n]*)\|(?P<pid>\d+)\|(?P<database>[^|\n]*)\|LOG:  (?:statement|execute [^:]*): (?P<text>.*)"
)


@dataclass(frozen=True)
class Look:
    """The counters at one moment."""

    cpu: dict[str, float]
    wal_bytes: int
    commands: Counter[str]
    received: int
    sent: int
    log_bytes: int


def look(servers: Servers, contender: Contender) -> Look:
    """Read them all."""
    pids = {**contender.pids(), "postgres": [servers.postgres.pid], "broker": [servers.broker.pid]}
    with servers.broker.client() as client:
        stats = client.info("stats")
        commands = {name.removeprefix("cmdstat_"): row["calls"] for name, row in client.info("commandstats").items()}
    return Look(
        cpu={name: sum(map(cpu_seconds, group)) for name, group in pids.items()},
        wal_bytes=int(servers.ask("SELECT pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '0/0')")),
        commands=Counter({name: calls for name, calls in commands.items() if name.split("|")[0] not in OUR_OWN}),
        received=stats["total_net_input_bytes"],
        sent=stats["total_net_output_bytes"],
        log_bytes=servers.postgres.plan.log.stat().st_size,
    )


@dataclass(frozen=True)
class Flushes:
    """How often WAL was made to reach the disk: while a client waited, and by PostgreSQL's own processes."""

    waited: int
    background: int

    def since(self, before: "Flushes", sagas: int) -> dict[str, float]:
        """For each saga."""
        return {
            "wal_flushes": (self.waited - before.waited) / sagas,
            "wal_flushes_background": (self.background - before.background) / sagas,
        }


def flushes(servers: Servers) -> Flushes:
    """So far. Wait SETTLE before, so that all have told."""
    wal = "SELECT coalesce(sum(fsyncs), 0) FROM pg_stat_io WHERE object = 'wal' AND backend_type"
    return Flushes(
        int(servers.ask(f"{wal} = 'client backend'")),
        int(servers.ask(f"{wal} <> 'client backend'")),
    )


def costs(before: Look, after: Look, sagas: int) -> dict[str, Any]:
    """CPU (milliseconds), WAL and broker, for each saga."""
    commands = after.commands - before.commands
    return {
        "cpu_ms": {name: 1000 * (after.cpu[name] - before.cpu[name]) / sagas for name in before.cpu},
        "cpu_ms_total": 1000 * (sum(after.cpu.values()) - sum(before.cpu.values())) / sagas,
        "wal_bytes": (after.wal_bytes - before.wal_bytes) / sagas,
        "broker_commands": commands.total() / sagas,
        "broker_commands_by_name": {name: calls / sagas for name, calls in sorted(commands.items())},
        "broker_bytes": (after.received - before.received + after.sent - before.sent) / sagas,
    }


def log_statements(servers: Servers, url: str) -> None:
    """From now on new sessions of this database log each statement that they send."""
    connection = servers.postgres.connect()
    try:
        with connection.cursor() as cursor:
            cursor.execute(f"ALTER DATABASE {database_name(url)} SET log_statement = 'all'")
    finally:
        connection.close()


def statements(servers: Servers, url: str, before: Look, after: Look, sagas: int) -> dict[str, Any]:
    """Round trips, and transactions that they made, for each saga by the client's name (`client`, `worker`).

    A statement is a round trip: psycopg2 sends each alone, BEGIN and COMMIT too. What a driver prepares or pipelines on
    its own counts by its executions.
    """
    with servers.postgres.plan.log.open("rb") as log:
        log.seek(before.log_bytes)
        text = log.read(after.log_bytes - before.log_bytes).decode(errors="replace")
    trips: Counter[str] = Counter()
    transactions: Counter[str] = Counter()
    by_text: Counter[str] = Counter()
    inside: set[str] = set()
    for line in text.splitlines():
        found = STATEMENT.match(line)
        if found is None or found["database"] != database_name(url) or found["name"] == "bench":
            continue
        name, pid, words = found["name"], found["pid"], found["text"].upper()
        trips[name] += 1
        by_text[f"{name}: {found['text'].split('(')[0][:60].strip()}"] += 1
        if words.startswith("BEGIN"):
            inside.add(pid)
        elif words.startswith(("COMMIT", "ROLLBACK")):
            inside.discard(pid)
        if pid not in inside:
            transactions[name] += not words.startswith("ROLLBACK")
    return {
        "round_trips": {name: count / sagas for name, count in sorted(trips.items())},
        "round_trips_by_statement": {text: count / sagas for text, count in sorted(by_text.items())},
        "transactions": {name: count / sagas for name, count in sorted(transactions.items())},
    }
