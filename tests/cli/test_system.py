"""The record of a running system, its lock, and who is who among processes."""

import os
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from sagas.cli.processes import Identity, free_port, port_trouble, socket_directory
from sagas.cli.servers import without_password
from sagas.cli.system import Home, System
from sagas.errors import ConfigurationError
from sagas.settings import load


def own_system() -> System:
    me = Identity.of(os.getpid())
    assert me is not None
    return System("postgresql+psycopg2://h", "redis://h", None, me.pid, me.started, "tasks", ["steps@h"], [])


def test_record_is_read_back_and_by_the_settings(tmp_path: Path) -> None:
    home = Home(tmp_path)
    home.record(own_system())
    assert home.running() == own_system()
    settings = load({"HODEI_HOME": str(tmp_path)})
    assert (settings.database_url, settings.broker_url) == ("postgresql+psycopg2://h", "redis://h")
    assert home.system_file.stat().st_mode & 0o777 == 0o600


def test_record_of_a_dead_supervisor_or_of_a_later_process_with_its_pid_is_nothing_running(tmp_path: Path) -> None:
    home = Home(tmp_path)
    home.record(replace(own_system(), supervisor_started=own_system().supervisor_started - 1000))
    assert home.running() is None


@pytest.mark.parametrize("text", ["", "{", "[]", '{"database_url": 1}'])
def test_record_that_is_not_whole_is_nothing_running(tmp_path: Path, text: str) -> None:
    home = Home(tmp_path)
    home.system_file.write_text(text)
    assert home.running() is None


def test_lock_refuses_a_second_one_and_is_free_afterwards(tmp_path: Path) -> None:
    home = Home(tmp_path)
    with home.locked(), pytest.raises(ConfigurationError, match="is at work"), home.locked():
        pass
    with home.locked():
        pass


def test_zombie_is_dead() -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        identity = Identity.of(child.pid)
        assert identity is not None and identity.is_alive()
        child.kill()
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
        assert not identity.is_alive()
        assert Identity.of(child.pid) is None


def test_port_that_is_taken_is_told_from_a_free_one() -> None:
    assert port_trouble(free_port()) is None
    with socket.socket() as squatter:
        squatter.bind(("127.0.0.1", 0))
        squatter.listen()
        assert port_trouble(squatter.getsockname()[1]) == "Address already in use"


def test_short_socket_directory_of_somebody_else_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    long = tmp_path / ("x" * 100)
    made = socket_directory(long)
    made.rmdir()
    made.symlink_to(tmp_path)
    try:
        with pytest.raises(ConfigurationError, match="belongs to somebody else"):
            socket_directory(long)
    finally:
        made.unlink()


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://127.0.0.1:6379/0", "redis://127.0.0.1:6379/0"),
        ("redis://:pw@h/0", "redis://:***@h/0"),
        ("amqps://me:p@ss@h//", "amqps://me:***@h//"),
        ("postgresql+psycopg2://me@/db?host=/x", "postgresql+psycopg2://me@/db?host=/x"),
    ],
)
def test_password_is_never_shown(url: str, shown: str) -> None:
    assert without_password(url) == shown
