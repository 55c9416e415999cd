"""docs/attacks.md names a test for every rule and lesson of its list, and each of them exists."""

import ast
import re

import pytest

from tests.harness.processes import ROOT

PAGE = ROOT / "docs" / "attacks.md"
RULES = [f"R{number}" for number in range(1, 25)]
LESSONS = [f"L{number}" for number in (2, 7, 10, 12, 19, *range(21, 30), 33, 34, 35, *range(40, 74))]


def lines() -> dict[str, str]:
    rows = re.findall(r"^\| ([LR]\d+) \| .*? \| (.*) \|$", PAGE.read_text(), re.MULTILINE)
    return dict(rows)


def test_every_line_has_an_answer() -> None:
    assert list(lines()) == RULES + LESSONS


@pytest.mark.parametrize("line", RULES + LESSONS)
def test_its_tests_exist(line: str) -> None:
    named = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", lines()[line])
    if not named:
        assert lines()[line].endswith("."), "a sentence that says why it cannot apply"
    for file, name in named:
        functions = {node.name for node in ast.walk(ast.parse((ROOT / file).read_text())) if hasattr(node, "name")}
        assert name in functions, f"{file} has no {name}"
