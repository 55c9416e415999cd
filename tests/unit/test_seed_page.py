"""docs/seed.md answers every line of the document that was asked for, and each test that it names exists."""

import re

import pytest

from tests.harness.processes import ROOT
from tests.unit.named_tests import named, require

PAGE = (ROOT / "docs" / "seed.md").read_text()
STORIES = {
    "US-1.1": (5, 7),
    "US-1.2": (5, 3),
    "US-1.3": (5, 4),
    "US-2.1": (4, 5),
    "US-2.2": (4, 4),
    "US-2.3": (4, 3),
    "US-3.1": (3, 4),
    "US-3.2": (4, 5),
    "US-4.1": (3, 5),
    "US-4.2": (4, 3),
    "US-5.1": (3, 3),
    "US-5.2": (4, 5),
    "US-5.3": (4, 3),
}
"""How many criteria and how many snippets the document has for each."""


def lines(story: str) -> list[tuple[str, str]]:
    """The rows of a story's table: (its line of the document, our answer)."""
    section = PAGE.split(f"## {story} ", 1)[1].split("\n## ", 1)[0]
    return re.findall(r"^\| (.+?) \| (.+) \|$", section, re.MULTILINE)[1:]


def test_nothing_is_put_off() -> None:
    assert "in progress" not in PAGE.lower()


def test_what_stands_beside_the_stories_has_tests_that_exist() -> None:
    found = named(PAGE.split("## Its tables", 1)[1])
    assert len(found) == 4
    for file, name in found:
        require(file, name)


@pytest.mark.parametrize("story", STORIES)
def test_every_line_is_there(story: str) -> None:
    criteria, snippets = STORIES[story]
    numbers = [int(found[1]) for line, _ in lines(story) if (found := re.match(r"(\d) ", line))]
    assert numbers == list(range(1, criteria + 1))
    snippet_names = [name for line, _ in lines(story) if line.startswith("`") for name in re.findall(r"`(\w+)`", line)]
    assert len(set(snippet_names)) == len(snippet_names) == snippets


@pytest.mark.parametrize("story", STORIES)
def test_its_tests_exist(story: str) -> None:
    for line, answer in lines(story):
        found = named(answer)
        assert answer.count("`tests/") == len(found), f"{line}: not `path::test`"
        assert found or answer.endswith("."), f"{line}: neither a test nor a reading"
        for file, name in found:
            require(file, name)
