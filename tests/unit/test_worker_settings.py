"""When workers are taken for idle or too old: read from the environment, refused in one line (P12)."""

import pytest

from sagas import ConfigurationError
from tasks.worker_settings import WorkerSettings


def test_by_default_no_worker_is_ended_for_its_age_or_idleness() -> None:
    assert WorkerSettings.from_env({}) == WorkerSettings(idle=0, max_age=0)


def test_seconds_are_read() -> None:
    """L74: and used, see tests/platform/test_sweeps.py."""
    env = {"HODEI_WORKER_IDLE": "1.5", "HODEI_WORKER_MAX_AGE": "3600"}
    assert WorkerSettings.from_env(env) == WorkerSettings(idle=1.5, max_age=3600)


@pytest.mark.parametrize("name", ["HODEI_WORKER_IDLE", "HODEI_WORKER_MAX_AGE"])
@pytest.mark.parametrize("value", ["soon", "-1", "nan", "inf"])
def test_what_is_no_number_of_seconds_is_refused(name, value) -> None:
    with pytest.raises(ConfigurationError, match=f"^{name}='{value}' is not a number of seconds$"):
        WorkerSettings.from_env({name: value})
