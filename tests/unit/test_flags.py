"""US-2.3 criterion 1: flags of each saga, and a percentage that always takes the same keys."""

import itertools
import os
import subprocess
import sys

import pytest

from sagas import SagaFeatureFlags, SagaType
from sagas.flags import share_of

KEYS = [f"job:{number}" for number in range(4000)]


def taken(percent: float) -> set[str]:
    flags = SagaFeatureFlags(provisioning_percent=percent)
    return {key for key in KEYS if flags.uses_saga(SagaType.PROVISIONING, key)}


def test_a_higher_percentage_keeps_every_key_and_adds_some() -> None:
    walk = [taken(percent) for percent in (0, 1, 25, 75, 100)]
    assert all(fewer < more for fewer, more in itertools.pairwise(walk))
    assert (walk[0], walk[-1]) == (set(), set(KEYS))
    for keys, share in zip(walk[1:4], (0.01, 0.25, 0.75), strict=True):
        assert len(keys) / len(KEYS) == pytest.approx(share, abs=0.03)


def test_a_key_has_the_same_share_in_every_process() -> None:
    """`hash()` of a string differs from process to process."""
    code = "from sagas.flags import share_of; print(share_of('provisioning', 'job:7'), share_of('execution', 'job:7'))"
    seen = {
        subprocess.run(
            [sys.executable, "-c", code], env={**os.environ, "PYTHONHASHSEED": seed}, capture_output=True, check=True
        ).stdout
        for seed in ("1", "2")
    }
    assert len(seen) == 1
    assert share_of("provisioning", "job:7") != share_of("execution", "job:7")
    # Written down: another value sends every key another way.
    assert share_of("provisioning", "job:7") == 1.36


def test_a_saga_that_is_not_enabled_takes_no_key() -> None:
    flags = SagaFeatureFlags(execution_saga_enabled=False)
    assert not any(flags.uses_saga(SagaType.EXECUTION, key) for key in KEYS)
    assert all(flags.uses_saga(SagaType.PROVISIONING, key) for key in KEYS), "as they come, all sagas are on"


@pytest.mark.parametrize("wanted", [{"shadow_mode": True}, {"shadow_sagas": frozenset({"provisioning"})}])
def test_the_shadow_is_of_the_keys_that_go_past_the_saga(wanted) -> None:
    flags = SagaFeatureFlags(provisioning_percent=25, **wanted)
    assert {key for key in KEYS if flags.shadows(SagaType.PROVISIONING, key)} == set(KEYS) - taken(25)
    off = SagaFeatureFlags(provisioning_percent=25)
    assert not any(off.shadows(SagaType.PROVISIONING, key) for key in KEYS)


def test_the_shadow_of_one_saga_is_not_that_of_another_and_a_recovery_has_none() -> None:
    flags = SagaFeatureFlags(
        execution_saga_enabled=False, recovery_saga_enabled=False, shadow_sagas=frozenset({"recovery"})
    )
    assert not flags.shadows(SagaType.EXECUTION, "k")
    assert not flags.shadows(SagaType.RECOVERY, "k")
    assert not SagaFeatureFlags(recovery_saga_enabled=False, shadow_mode=True).shadows(SagaType.RECOVERY, "k")


@pytest.mark.parametrize("percent", [-1, 100.5, float("nan")])
def test_what_is_no_percentage_is_refused(percent) -> None:
    with pytest.raises(ValueError, match="recovery_percent"):
        SagaFeatureFlags(recovery_percent=percent)


def test_a_saga_without_a_flag_is_refused() -> None:
    with pytest.raises(ValueError, match="order"):
        SagaFeatureFlags().uses_saga("order", "k")
