"""What `hodei up` and `hodei status` cannot work with: one clear line, and nothing left."""

import socket
from pathlib import Path

import pytest

from tests.cli.conftest import APP, Hodei

NOWHERE = "redis://:secret@127.0.0.1:1/0"


def test_app_that_is_not_there(hodei: Hodei) -> None:
    assert "the Celery app 'no_such_app' cannot be loaded" in hodei.refused("up", "-A", "no_such_app")
    assert hodei.processes() == []


def test_app_that_raises_when_it_is_imported(hodei: Hodei, tmp_path: Path) -> None:
    (tmp_path / "raising_app.py").write_text("x = 1\nraise RuntimeError('no colours')\n")
    line = hodei.refused("up", "-A", "raising_app", PYTHONPATH=str(tmp_path))
    assert "'raising_app' cannot be loaded: RuntimeError: no colours" in line
    assert "raising_app.py, line 2" in line
    assert hodei.processes() == []


def test_port_of_flower_that_is_taken(hodei: Hodei) -> None:
    with socket.socket() as squatter:
        squatter.bind(("127.0.0.1", 0))
        squatter.listen()
        port = squatter.getsockname()[1]
        line = hodei.refused("up", "-A", APP, "--flower-port", str(port))
    assert f"port {port} for Flower cannot be used: Address already in use" in line
    assert hodei.processes() == []


def test_database_that_does_not_answer(hodei: Hodei) -> None:
    line = hodei.refused("up", "-A", APP, HODEI_DATABASE_URL="postgresql://me:secret@127.0.0.1:1/x")
    assert "the database postgresql+psycopg2://me:***@127.0.0.1:1/x does not answer" in line
    assert "secret" not in line


def test_broker_that_does_not_answer(hodei: Hodei) -> None:
    line = hodei.refused("up", "-A", APP, HODEI_BROKER_URL=NOWHERE)
    assert "the broker redis://:***@127.0.0.1:1/0 does not answer" in line
    assert "secret" not in line
    assert hodei.processes() == []


def test_database_url_of_another_kind(hodei: Hodei) -> None:
    line = hodei.refused("up", "-A", APP, HODEI_DATABASE_URL="mysql://127.0.0.1/x")
    assert "database URL begins with 'mysql'" in line


def test_home_that_is_a_file(hodei: Hodei) -> None:
    hodei.home.write_text("not a directory")
    assert f"HODEI_HOME {hodei.home} cannot be used" in hodei.refused("up", "-A", APP)


@pytest.mark.parametrize("command", ["status", "flower"])
def test_nothing_runs(hodei: Hodei, command: str) -> None:
    line = hodei.refused(command)
    assert "hodei up" in line


def test_status_of_servers_that_do_not_answer(hodei: Hodei, database_url: str) -> None:
    nowhere = "postgresql://127.0.0.1:1/x"
    assert "the database" in hodei.refused("status", HODEI_DATABASE_URL=nowhere, HODEI_BROKER_URL=NOWHERE)
    assert "the broker" in hodei.refused("status", HODEI_DATABASE_URL=database_url, HODEI_BROKER_URL=NOWHERE)


def test_tables_of_a_database_that_does_not_answer(hodei: Hodei) -> None:
    line = hodei.refused("db", "upgrade", HODEI_DATABASE_URL="postgresql://127.0.0.1:1/x")
    assert "does not answer" in line
