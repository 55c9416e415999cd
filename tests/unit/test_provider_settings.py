"""Which provider a host has: from its environment, and wrong settings are one line (P12)."""

import os

import pytest

from sagas.errors import ConfigurationError
from tasks.provider_settings import ProviderSettings


def test_without_settings_workers_are_processes() -> None:
    """DESIGN 8: the local child process is the default; two workers for each core, at least four."""
    chosen = ProviderSettings.from_env({})
    assert (chosen.kind, chosen.image, chosen.network) == ("process", "hodei-sagas:latest", None)
    assert chosen.capacity == max(4, 2 * (os.cpu_count() or 1))


def test_every_setting_is_read() -> None:
    """L74."""
    env = {
        "HODEI_PROVIDER": "docker",
        "HODEI_PROVIDER_CAPACITY": "7",
        "HODEI_WORKER_IMAGE": "mine:1",
        "HODEI_DOCKER_NETWORK": "host",
    }
    assert ProviderSettings.from_env(env) == ProviderSettings("docker", 7, "mine:1", "host")


def test_a_host_may_have_no_slots() -> None:
    """A zero is a number, not the lack of one."""
    assert ProviderSettings.from_env({"HODEI_PROVIDER_CAPACITY": "0"}).capacity == 0


@pytest.mark.parametrize(
    ("name", "value"),
    [("HODEI_PROVIDER", "lxc"), ("HODEI_PROVIDER_CAPACITY", "-1"), ("HODEI_PROVIDER_CAPACITY", "many")],
)
def test_a_wrong_setting_is_one_line_that_names_it(name: str, value: str) -> None:
    with pytest.raises(ConfigurationError, match=f"^{name}='{value}'"):
        ProviderSettings.from_env({name: value})
