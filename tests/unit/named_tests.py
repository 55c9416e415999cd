"""Pages of the documentation name tests as `tests/path.py::name`."""

import ast
import re

from tests.harness.processes import ROOT


def named(text: str) -> list[tuple[str, str]]:
    """(file, name) of each test that the text names."""
    return re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", text)


def require(file: str, name: str) -> None:
    """AssertionError if the file has no such test."""
    functions = {node.name for node in ast.walk(ast.parse((ROOT / file).read_text())) if hasattr(node, "name")}
    assert name in functions, f"{file} has no {name}"
