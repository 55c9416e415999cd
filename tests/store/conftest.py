"""Fixtures of the store's tests."""

from collections.abc import Iterator

import pytest

from tests.harness.database import MakeDatabase
from tests.store.lab import Lab


@pytest.fixture
def lab(make_database: MakeDatabase) -> Iterator[Lab]:
    """The store on a fresh database, with a clock that only the test moves."""
    lab = Lab(make_database("engine"))
    yield lab
    lab.close()
