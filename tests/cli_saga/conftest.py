"""The commands in this process, on a database of the test's own with the order saga in it."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from sagas.cli import main
from sagas.cli.saga_engine import engine_of_settings
from sagas.runtime.engine import Engine

PAYLOAD = {"sku": "A1", "card": "tok_1"}


@dataclass(frozen=True)
class Answer:
    """What a command gave."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        assert self.code == 0, self
        return json.loads(self.out)

    @property
    def refusal(self) -> str:
        """The one line of a command that refused."""
        assert self.code == 1 and not self.out, self
        (line,) = self.err.splitlines()
        assert line.startswith("hodei: ")
        return line


Hodei = Callable[..., Answer]


@pytest.fixture
def environment(
    monkeypatch: pytest.MonkeyPatch, database_url: str, broker_url: str, tmp_path: Path
) -> pytest.MonkeyPatch:
    """Settings of the commands, and of all processes that the test starts."""
    monkeypatch.setenv("HODEI_DATABASE_URL", database_url)
    monkeypatch.setenv("HODEI_BROKER_URL", broker_url)
    monkeypatch.setenv("HODEI_SAGA_MODULES", "examples.order")
    monkeypatch.setenv("HODEI_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("ORDER_LEDGER", str(tmp_path / "ledger"))
    return monkeypatch


@pytest.fixture
def hodei(environment: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Hodei:
    """`hodei("saga", "list") -> Answer`."""

    def run(*words: str) -> Answer:
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main(words)
        out, err = capsys.readouterr()
        code = ended.value.code
        return Answer(code if isinstance(code, int) else 0, out, err)

    return run


@pytest.fixture
def engine(environment: pytest.MonkeyPatch) -> Engine:
    """An engine that knows the order saga, and has written it down."""
    found = engine_of_settings(definitions=True)
    found.register_definitions()
    return found
