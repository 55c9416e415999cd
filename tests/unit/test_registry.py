"""Which definitions a process knows, and how it finds them."""

import subprocess
import sys
from pathlib import Path

import pytest

from sagas import ConfigurationError, DefinitionError, Registry, Saga, SagaContext, UnknownSaga


def saga(name: str = "order", version: int = 1) -> Saga:
    made = Saga(name, version=version)

    @made.step
    def only(ctx: SagaContext) -> None: ...

    return made


def test_versions_stand_side_by_side() -> None:
    """L56: old versions stay registered."""
    old, new = saga(), saga(version=10)
    registry = Registry([old, new, saga("refund")])

    assert registry.get("order", 1) is old
    assert registry.latest("order") is new
    assert len(registry) == len(list(registry)) == 3


def test_what_is_not_there_is_told_with_what_is() -> None:
    registry = Registry([saga()])

    with pytest.raises(UnknownSaga, match=r"'order' version 2 .*loaded: order v1"):
        registry.get("order", 2)
    with pytest.raises(UnknownSaga, match="'refund'"):
        registry.latest("refund")
    with pytest.raises(UnknownSaga, match="loaded: none"):
        Registry().latest("order")


def test_the_same_again_is_fine_another_one_is_not() -> None:
    one = saga()
    registry = Registry([one])
    registry.add(one)

    with pytest.raises(DefinitionError, match="defined twice"):
        registry.add(saga())


def test_a_saga_without_steps_is_refused() -> None:
    """P12: before anything could be started."""
    with pytest.raises(DefinitionError, match="no steps"):
        Registry([Saga("order")])


MODULE = """
from sagas import Saga
made = Saga("{name}")
alias = made
@made.step
def only(ctx): ...
"""


def test_modules_are_found_in_the_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """HODEI_SAGA_MODULES: each `Saga` among a module's names, once."""
    (tmp_path / "unit_test_shop.py").write_text(MODULE.format(name="shop"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    registry = Registry()
    registry.load_modules(["unit_test_shop"])
    registry.load_modules(["unit_test_shop"])

    assert [one.name for one in registry] == ["shop"]


def test_a_missing_module_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))

    with pytest.raises(ConfigurationError, match="'unit_test_nowhere' cannot be found") as caught:
        Registry().load_modules(["unit_test_nowhere"])
    assert "\n" not in str(caught.value)


def test_a_module_that_misses_something_else_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The author's own broken import is not hidden behind ours."""
    (tmp_path / "unit_test_broken.py").write_text("import unit_test_something_else\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))

    with pytest.raises(ModuleNotFoundError, match="unit_test_something_else"):
        Registry().load_modules(["unit_test_broken"])


def test_everything_an_app_needs_is_importable_and_light() -> None:
    """Section 4: `import sagas` pulls in neither Celery nor SQLAlchemy; what is promised in `__all__` is there."""
    code = (
        "import sys, sagas\n"
        "heavy = {'celery', 'sqlalchemy', 'psycopg2', 'kombu', 'alembic', 'pydantic'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
        "missing = [name for name in sagas.__all__ if not hasattr(sagas, name)]\n"
        "assert not missing, missing\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stderr
