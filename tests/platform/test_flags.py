"""US-2.3: flags are rows, each change of one is an event, and every process sees it within seconds."""

from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import pytest

from sagas import SagaFeatureFlags, SagaType


def test_without_rows_the_flags_are_as_they_come(records) -> None:
    with records() as r:
        assert r.flags.current() == SagaFeatureFlags()
        assert [flag.saga for flag in r.flags.list()] == list(SagaType)


def test_a_change_is_an_event_with_actor_and_reason(records, query) -> None:
    """P8."""
    with records() as r:
        r.flags.set(SagaType.PROVISIONING, percent=25, shadow=True, actor="ann", reason="canary")
    with records() as r:
        r.flags.set(SagaType.PROVISIONING, enabled=False, actor="bob", reason="trouble")
        r.flags.set(SagaType.PROVISIONING, enabled=False, actor="bob", reason="again: nothing changes")
    with records() as r:
        known = r.flags.current()
        (provisioning, *_) = r.flags.list()
    assert known == SagaFeatureFlags(
        provisioning_saga_enabled=False, provisioning_percent=25, shadow_sagas=frozenset({"provisioning"})
    )
    assert (provisioning.actor, provisioning.reason) == ("bob", "trouble")
    events = query("SELECT * FROM saga_events WHERE stream = 'flag:provisioning' ORDER BY event_id")
    assert [(event["event_type"], event["actor"], event["payload"]["reason"]) for event in events] == [
        ("FeatureFlagChanged", "ann", "canary"),
        ("FeatureFlagChanged", "bob", "trouble"),
    ]
    was = {"enabled": True, "percent": 100, "shadow": False}
    assert events[0]["payload"]["before"] == was
    assert events[1]["payload"]["after"] == {"enabled": False, "percent": 25, "shadow": True}


def test_changes_at_the_same_time_come_one_after_the_other(records, query) -> None:
    """L10: what one changes is not lost to another who read it before."""

    def change(number: int) -> None:
        with records() as r:
            r.flags.set(SagaType.EXECUTION, percent=number, actor=str(number), reason="race")

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(change, range(1, 13)))
    payloads = [row["payload"] for row in query("SELECT payload FROM saga_events ORDER BY event_id")]
    assert len(payloads) == 12
    for earlier, later in pairwise(payloads):
        assert later["before"] == earlier["after"]
    assert query.value("SELECT percent FROM feature_flags") == payloads[-1]["after"]["percent"]


@pytest.mark.parametrize(
    ("saga", "wrong", "message"),
    [
        (SagaType.EXECUTION, {"percent": 101}, "101 is no percentage"),
        (SagaType.EXECUTION, {"percent": float("nan")}, "nan is no percentage"),
        (SagaType.RECOVERY, {"shadow": True}, "recovery has no shadow"),
    ],
)
def test_what_no_flag_can_be_is_refused_before_anything_is_written(records, query, saga, wrong, message) -> None:
    """P12."""
    with pytest.raises(ValueError, match=message), records() as r:
        r.flags.set(saga, **wrong, actor="ann", reason="")
    assert query("SELECT * FROM feature_flags") == query("SELECT * FROM saga_events") == []
