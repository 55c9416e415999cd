"""How large: small by default; `HODEI_SCALE=10000 pytest -m scale` for the sizes of issue 3."""

import pytest


def pytest_configure(config: pytest.Config) -> None:
    """The marker of the tests whose size is a parameter."""
    config.addinivalue_line("markers", "scale: its size is HODEI_SCALE (sagas) or HODEI_HISTORY (finished sagas)")
