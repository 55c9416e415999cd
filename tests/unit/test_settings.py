"""Settings from the environment (design, section 11)."""

import json
from dataclasses import fields
from pathlib import Path

import pytest

from sagas import ConfigurationError
from sagas.settings import LEASE_MARGIN, Settings, load, normalise_database_url

VALUES = {
    "DATABASE_URL": ("postgresql://h/d", "database_url", "postgresql+psycopg2://h/d"),
    "BROKER_URL": ("redis://h/0", "broker_url", "redis://h/0"),
    "SAGA_MODULES": ("a.b, c,,", "saga_modules", ("a.b", "c")),
    "HOME": ("/nowhere/x", "home", Path("/nowhere/x")),
    "DB_SCHEMA": ("mine", "db_schema", "mine"),
    "STEP_TIMEOUT": ("7", "step_timeout", 7.0),
    "RECONCILE_EVERY": ("0.5", "reconcile_every", 0.5),
    "NODE_BEAT": ("3", "node_beat", 3.0),
    "NODE_DEAD": ("9", "node_dead", 9.0),
    "WORKER_BEAT": ("4", "worker_beat", 4.0),
    "WORKER_DEAD": ("30", "worker_dead", 30.0),
    "VISIBILITY_TIMEOUT": ("60", "visibility_timeout", 60.0),
    "CONTINUATION_MS": ("0", "continuation_ms", 0),
    "MAX_PAYLOAD": ("1000", "max_payload", 1000),
    "EVENT_EXCHANGE": ("audit", "event_exchange", "audit"),
    "EVENT_EXCHANGE_TYPES": ("SagaFailed,LateEffect", "event_exchange_types", ("SagaFailed", "LateEffect")),
}
NOWHERE = {"HODEI_HOME": "/nowhere"}


@pytest.mark.parametrize("name", VALUES)
def test_every_variable_is_read(name: str) -> None:
    """L74: accepted and read."""
    raw, field, value = VALUES[name]

    assert getattr(load({**NOWHERE, f"HODEI_{name}": raw}), field) == value
    assert getattr(load(NOWHERE), field) != value


def test_no_setting_is_without_its_variable() -> None:
    assert {field.name for field in fields(Settings)} == {field for _, field, _ in VALUES.values()}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("step_timeout", 300),
        ("reconcile_every", 1),
        ("node_beat", 2),
        ("node_dead", 6),
        ("worker_beat", 5),
        ("worker_dead", 20),
        ("visibility_timeout", 3600),
        ("max_payload", 262144),
        ("continuation_ms", 200),
        ("home", Path(".hodei")),
    ],
)
def test_the_defaults_are_the_page_s(name: str, value: object) -> None:
    """Section 11."""
    assert getattr(load({}), name) == value


def test_keywords_win_and_none_does_not(tmp_path: Path) -> None:
    """Every one also a keyword of `sagas.install`."""
    environ = {"HODEI_HOME": str(tmp_path), "HODEI_STEP_TIMEOUT": "7"}

    assert load(environ, step_timeout=5.0).step_timeout == 5.0
    assert load(environ, step_timeout=None).step_timeout == 7.0


def test_an_empty_variable_is_none(tmp_path: Path) -> None:
    assert load({"HODEI_HOME": str(tmp_path), "HODEI_DATABASE_URL": ""}).database_url is None


def test_a_running_system_fills_what_is_missing(tmp_path: Path) -> None:
    """`hodei up` writes its addresses in HODEI_HOME."""
    system = {"database_url": "postgresql://up/d", "broker_url": "redis://up/0", "supervisor_pid": 1}
    (tmp_path / "system.json").write_text(json.dumps(system))

    found = load({"HODEI_HOME": str(tmp_path), "HODEI_BROKER_URL": "redis://mine/0"})
    assert (found.database_url, found.broker_url) == ("postgresql+psycopg2://up/d", "redis://mine/0")


@pytest.mark.parametrize("name", ["require_database", "require_broker"])
def test_nothing_known_is_one_line_that_says_what_to_do(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigurationError, match=r"set HODEI_\w+_URL, or run `hodei up`") as caught:
        getattr(load({"HODEI_HOME": str(tmp_path)}), name)()
    assert "\n" not in str(caught.value)


def test_a_broken_file_and_a_broken_number_are_told(tmp_path: Path) -> None:
    (tmp_path / "system.json").write_text("{")
    with pytest.raises(ConfigurationError, match=r"system\.json cannot be read"):
        load({"HODEI_HOME": str(tmp_path)})
    with pytest.raises(ConfigurationError, match="HODEI_STEP_TIMEOUT='soon' is not a number"):
        load({**NOWHERE, "HODEI_STEP_TIMEOUT": "soon"})
    with pytest.raises(ConfigurationError, match=r"HODEI_MAX_PAYLOAD='1\.5' is not a number"):
        load({**NOWHERE, "HODEI_MAX_PAYLOAD": "1.5"})


@pytest.mark.parametrize(
    ("given", "normal"),
    [
        ("postgresql://u:p@h:1/d?sslmode=require", "postgresql+psycopg2://u:p@h:1/d?sslmode=require"),
        ("postgres://h/d", "postgresql+psycopg2://h/d"),
        ("postgresql+psycopg2://h/d", "postgresql+psycopg2://h/d"),
        (None, None),
        ("", None),
    ],
)
def test_both_spellings_of_a_database_url(given: str | None, normal: str | None) -> None:
    assert normalise_database_url(given) == normal


@pytest.mark.parametrize("url", ["mysql://h/d", "postgresql+asyncpg://h/d", "sqlite:///x"])
def test_another_database_is_refused_without_showing_its_password(url: str) -> None:
    with pytest.raises(ConfigurationError, match=url.split(":", 1)[0].replace("+", r"\+")) as caught:
        normalise_database_url(url.replace("//", "//user:secret@"))
    assert "secret" not in str(caught.value)


def test_a_lease_outlives_its_step_and_the_wait_for_a_lock() -> None:
    """R12: the hard limit strikes a second after ours, and the commit may wait 5 s for the saga's row."""
    assert LEASE_MARGIN > 1 + 5
