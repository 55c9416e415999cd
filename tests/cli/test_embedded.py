"""The embedded servers as real processes: started, killed, found again, stopped."""

import os
import signal
import socket
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import psutil
import psycopg2
import pytest
import redis

from sagas.cli.embedded import start_postgres, start_valkey
from sagas.cli.servers import libpq_url, postgres_answers, valkey_answers
from sagas.errors import ConfigurationError


def ask(url: str, statement: str) -> str:
    with closing(psycopg2.connect(libpq_url(url))) as connection, connection, connection.cursor() as cursor:
        cursor.execute(statement)
        row = cursor.fetchone()
        return str(row[0]) if row else ""


def listening(pid: int) -> list[tuple[str, int]]:
    """TCP addresses that a process listens on."""
    connections = psutil.Process(pid).net_connections("tcp")
    return [(c.laddr.ip, c.laddr.port) for c in connections if c.status == psutil.CONN_LISTEN]


def test_postgres_is_durable_and_listens_on_a_unix_socket_only(home: Path) -> None:
    server = start_postgres(home)
    try:
        assert server.url.startswith("postgresql+psycopg2://")
        assert [ask(server.url, f"SHOW {name}") for name in ("fsync", "full_page_writes", "synchronous_commit")] == [
            "on",
            "on",
            "on",
        ]
        assert int(ask(server.url, "SHOW max_connections")) >= 100
        assert ask(server.url, "SHOW server_encoding") == "UTF8"
        assert listening(server.pid) == []
    finally:
        server.stop()
    assert not postgres_answers(server.url)
    assert server.child.poll() == 0


def test_killed_postgres_starts_again_with_its_data(home: Path) -> None:
    """Its lock file, its socket and its shared memory are those of the killed run."""
    first = start_postgres(home)
    ask(first.url, "CREATE TABLE t AS SELECT 42 AS n; SELECT n FROM t")
    first.child.kill()
    first.child.wait()
    second = start_postgres(home)
    try:
        assert ask(second.url, "SELECT n FROM t") == "42"
    finally:
        second.stop()


def test_running_postgres_of_an_earlier_run_is_stopped_first(home: Path) -> None:
    first = start_postgres(home)
    second = start_postgres(home)
    try:
        assert first.child.wait(10) == 0
        assert second.pid != first.pid
        assert postgres_answers(second.url)
    finally:
        second.stop()


def test_lock_that_names_a_foreign_process_is_forgotten_and_the_process_lives(home: Path) -> None:
    """A pid is reused: what the stale lock names now is somebody else."""
    start_postgres(home).stop()
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"], cwd="/") as stranger:
        try:
            (home / "data" / "postmaster.pid").write_text(f"{stranger.pid}\n{home / 'data'}\n1\n5432\n{home}\n\n")
            server = start_postgres(home)
            assert postgres_answers(server.url)
            server.stop()
            assert stranger.poll() is None
        finally:
            stranger.kill()


def test_initdb_that_was_killed_half_way_is_made_anew(home: Path) -> None:
    (home / "data.new" / "base").mkdir(parents=True)
    (home / "data.new" / "PG_VERSION").write_text("18\n")
    server = start_postgres(home)
    try:
        assert postgres_answers(server.url)
    finally:
        server.stop()


def test_path_too_long_for_a_socket_gets_a_short_one_that_is_removed(home: Path) -> None:
    long = home / ("x" * 100)
    server = start_postgres(long)
    sockets = Path(server.url.rpartition("host=")[2])
    try:
        assert not sockets.is_relative_to(long)
        assert sockets.stat().st_mode & 0o777 == 0o700
        assert postgres_answers(server.url)
    finally:
        server.stop()
    assert not sockets.exists()


def test_data_that_are_damaged_give_the_last_line_of_the_log(home: Path) -> None:
    start_postgres(home).stop()
    (home / "data" / "PG_VERSION").write_text("9\n")
    with pytest.raises(ConfigurationError, match=r"postgres did not start: .*(version|initialized).*postgres\.log"):
        start_postgres(home)


def test_valkey_listens_on_loopback_only_and_writes_nothing(home: Path) -> None:
    server = start_valkey(home)
    try:
        assert valkey_answers(server.url)
        assert {ip for ip, _ in listening(server.pid)} == {"127.0.0.1"}
        with closing(redis.Redis.from_url(server.url)) as client:
            client.set("key", "value")
            assert client.config_get("appendonly") == {"appendonly": "no"}
            assert client.config_get("save") == {"save": ""}
    finally:
        server.stop()
    assert not valkey_answers(server.url)
    assert not list(home.glob("*.rdb"))


def test_killed_valkey_starts_again_on_the_same_port(home: Path) -> None:
    first = start_valkey(home)
    os.kill(first.pid, signal.SIGKILL)
    first.child.wait()
    second = start_valkey(home)
    try:
        assert second.url == first.url
    finally:
        second.stop()


def test_running_valkey_of_an_earlier_run_is_stopped_first(home: Path) -> None:
    first = start_valkey(home)
    second = start_valkey(home)
    try:
        assert first.child.wait(10) == 0
        assert valkey_answers(second.url)
    finally:
        second.stop()


def test_port_of_the_last_run_that_is_taken_now_gives_another(home: Path) -> None:
    first = start_valkey(home)
    first.stop()
    port = int(first.url.rpartition(":")[2].partition("/")[0])
    with socket.socket() as squatter:
        squatter.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        squatter.bind(("127.0.0.1", port))
        squatter.listen()
        second = start_valkey(home)
        second.stop()
    assert second.url != first.url


def test_named_port_that_is_taken_is_one_clear_error(home: Path) -> None:
    with socket.socket() as squatter:
        squatter.bind(("127.0.0.1", 0))
        squatter.listen()
        with pytest.raises(ConfigurationError, match=r"valkey did not start: .*valkey\.log"):
            start_valkey(home, port=squatter.getsockname()[1])
