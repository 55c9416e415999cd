"""The command group: cheap to import, clear when it is called wrongly."""

import subprocess
import sys

import pytest
from click.testing import CliRunner

from sagas.cli.main import cli, main
from sagas.errors import ConfigurationError


def test_importing_the_command_line_loads_nothing_heavy() -> None:
    code = "import sys, sagas.cli; print(sorted({m.split('.')[0] for m in sys.modules}))"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    heavy = [
        name
        for name in ("celery", "kombu", "sqlalchemy", "alembic", "psycopg2", "psutil", "rich")
        if f"'{name}'" in out
    ]
    assert heavy == []


def test_help_names_every_command_without_importing_it() -> None:
    result = CliRunner().invoke(cli, ["--help"])
    assert result.exit_code == 0
    for name in ("up", "down", "status", "flower", "db", "saga", "check"):
        assert f"\n  {name} " in result.output


def test_unknown_command_is_answered_with_the_one_that_was_meant() -> None:
    result = CliRunner().invoke(cli, ["statu"])
    assert result.exit_code == 2
    assert "No such command 'statu'. Did you mean 'status'?" in result.output


def test_unknown_command_that_resembles_nothing_gets_no_guess() -> None:
    result = CliRunner().invoke(cli, ["xyzzy"])
    assert result.exit_code == 2
    assert "Did you mean" not in result.output


def test_error_of_ours_is_one_line_and_exit_code_1(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(**_: object) -> None:
        raise ConfigurationError("the sky is down; put it up again")

    monkeypatch.setattr(cli, "main", fail)
    with pytest.raises(SystemExit) as caught:
        main(["status"])
    assert caught.value.code == 1
    assert capsys.readouterr().err == "hodei: the sky is down; put it up again\n"


def test_version_is_that_of_the_package() -> None:
    import sagas

    result = CliRunner().invoke(cli, ["--version"])
    assert result.output == f"hodei {sagas.__version__}\n"
