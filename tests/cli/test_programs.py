"""What a system consists of, and how supervisord is told."""

import configparser
import shlex
import socket
from pathlib import Path

import pytest

from sagas.cli.programs import Program, programs, step_queues
from sagas.cli.supervise import configuration
from sagas.cli.system import Home
from sagas.errors import ConfigurationError


def queues_of(program: Program) -> str:
    return program.argv[program.argv.index("-Q") + 1]


def test_steps_are_consumed_with_the_queues_that_definitions_name_once_each() -> None:
    assert step_queues(("payments", "steps", "payments", "mail")) == ("steps", "events", "logs", "payments", "mail")


def test_platform_has_a_worker_for_this_hosts_provider_and_another_app_has_none(tmp_path: Path) -> None:
    host = socket.gethostname()
    found = {p.name: p for p in programs(Home(tmp_path), "tasks", ("payments",), 3, None)}
    assert set(found) == {"steps", "control", "provider", "beat"}
    assert queues_of(found["steps"]) == "steps,events,logs,payments"
    assert queues_of(found["control"]) == "control,compensations"
    assert queues_of(found["provider"]) == f"provider.{host}"
    assert found["steps"].node == f"steps@{host}"
    assert found["steps"].argv[found["steps"].argv.index("-c") + 1] == "3"
    assert {p.name for p in programs(Home(tmp_path), "shop.app", (), 1, None)} == {"steps", "control", "beat"}


def test_beat_keeps_its_schedule_in_the_home_and_flower_listens_on_loopback(tmp_path: Path) -> None:
    found = {p.name: p for p in programs(Home(tmp_path), "tasks", (), 1, 5555)}
    assert str(tmp_path / "beat" / "schedule") in found["beat"].argv
    assert {"--address=127.0.0.1", "--port=5555"} <= set(found["flower"].argv)


def test_flower_that_is_not_installed_is_one_clear_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(ConfigurationError, match=r"Flower is not installed: .*--no-flower"):
        programs(Home(tmp_path), "tasks", (), 1, 5555)


def test_supervisor_gets_each_word_as_it_was_and_servers_first(tmp_path: Path) -> None:
    words = ("/bin/x", "--at", "100%", "a b", "")
    given = [
        Program("db", words, tmp_path / "db.log", stop_signal="INT", user="nobody", server=True),
        Program("steps", ("/bin/y",), tmp_path / "steps.log"),
        Program("beat", ("/bin/z",), tmp_path / "beat.log"),
    ]
    # supervisord reads it the same way, and then expands %(...)s and %%.
    read = configparser.RawConfigParser(inline_comment_prefixes=(";", "#"))
    read.read_string(configuration(Home(tmp_path), given, tmp_path / "s.sock"))
    assert tuple(shlex.split(read["program:db"]["command"] % {})) == words
    assert read["program:db"]["stopsignal"] == "INT"
    assert read["program:db"]["user"] == "nobody"
    assert read["program:db"]["autostart"] == "true"
    assert read["program:steps"]["autostart"] == "false"
    assert read["group:work"]["programs"] == "steps,beat"
    assert int(read["program:db"]["priority"]) < int(read["group:work"]["priority"])
