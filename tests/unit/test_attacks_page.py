"""docs/attacks.md names a test for every rule and lesson of its list, and each of them exists."""

import re

import pytest

from tests.harness.processes import ROOT
from tests.unit.named_tests import named, require

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
    found = named(lines()[line])
    if not found:
        assert lines()[line].endswith("."), "a sentence that says why it cannot apply"
    for file, name in found:
        require(file, name)
