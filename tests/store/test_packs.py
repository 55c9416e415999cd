"""R22 with packs: who is brought by another one's message needs none while that one waits (decision 0014)."""

from typing import Any

import pytest

from sagas import SagaId
from sagas.store.requests import StartRequest
from tests.store.lab import Lab, Run


@pytest.fixture
def pack(lab: Lab) -> list[Run]:
    """Three sagas of one message: the first one's."""
    lab.define("order", one={}, two={})
    return together(lab, 3)


def together(lab: Lab, count: int) -> list[Run]:
    ids = [SagaId.new() for _ in range(count)]
    requests = [
        StartRequest("order", {}, saga_id=one, published=True, brought_by=ids[0] if one is not ids[0] else None)
        for one in ids
    ]
    return [Run(lab, SagaId(answer["saga_id"])) for answer in lab.store.start_many(requests)]


def needed(lab: Lab) -> tuple[int, int]:
    """Sagas that wait in `steps`, and messages that they need."""
    return lab.store.waiting(["steps"]).get("steps", (0, 0))


def found(lab: Lab) -> dict[str, Any]:
    """What is due, by its saga: what its message would bring."""
    return {one["saga_id"]: one["brings"] for one in lab.reconcile()}


def ids(*runs: Run) -> set[str]:
    return {str(run.saga_id) for run in runs}


def test_one_message_is_needed_and_is_sent_again_with_all(lab: Lab, pack: list[Run]) -> None:
    first, second, third = pack
    assert needed(lab) == (3, 1)
    lab.advance(3)
    due = found(lab)
    assert due.keys() == ids(first)
    assert set(due[str(first.saga_id)]) == ids(second, third)
    assert all(run.row()["wake_at"] > lab.now() for run in pack)


def test_when_it_was_taken_each_needs_its_own(lab: Lab, pack: list[Run]) -> None:
    first, second, third = pack
    first.claim("one")
    assert needed(lab) == (2, 2)
    second.do("one")
    assert needed(lab) == (2, 2)
    lab.advance(3)
    assert found(lab) == dict.fromkeys(ids(second, third))


@pytest.mark.parametrize("verb", ["pause", "cancel"])
def test_a_first_saga_that_was_stopped_brings_nobody(lab: Lab, pack: list[Run], verb: str) -> None:
    """Its message may be there for ever."""
    first, second, third = pack
    if verb == "pause":
        assert lab.store.pause(first.saga_id, True, None, None)["verdict"] == "paused"
    else:
        assert first.cancel() == "cancelled"
    assert needed(lab) == (2, 2)
    lab.advance(3)
    assert found(lab) == dict.fromkeys(ids(second, third))


def test_who_is_stopped_is_not_brought(lab: Lab, pack: list[Run]) -> None:
    first, second, third = pack
    second.cancel()
    assert needed(lab) == (2, 1)
    lab.advance(3)
    assert found(lab) == {str(first.saga_id): [str(third.saga_id)]}


def test_a_message_of_another_queue_brings_nobody(lab: Lab, pack: list[Run]) -> None:
    _first, second, _third = pack
    lab.sql("UPDATE saga_steps SET queue = 'other' WHERE saga_id = %s", str(second.saga_id))
    assert needed(lab) == (2, 1)
    assert lab.store.waiting(["other"]) == {"other": (1, 1)}


def test_a_first_saga_that_is_not_there_brings_nobody(lab: Lab) -> None:
    """Its key was another one's."""
    lab.define("order", one={})
    run = Run(lab, SagaId.new())
    lab.store.start_many([StartRequest("order", {}, saga_id=run.saga_id, published=True, brought_by=SagaId.new())])
    assert needed(lab) == (1, 1)
    lab.advance(3)
    assert found(lab) == {str(run.saga_id): None}


def test_only_who_needs_a_message_is_called_in(lab: Lab, pack: list[Run]) -> None:
    first, _second, _third = pack
    lab.advance(3)
    assert lab.store.put_off("steps", 500, 100) == 3
    assert lab.store.call_in("steps", 5, 100) == 1
    assert first.row()["wake_at"] == lab.now()
    first.claim("one")
    assert lab.store.call_in("steps", 5, 100) == 2


def test_a_message_that_nobody_claims_parks_each_of_them_in_the_end(lab: Lab, pack: list[Run]) -> None:
    """R23: its first saga is parked, then the others need messages of their own."""
    first, _second, _third = pack
    assert [lab.store.lost(first.saga_id, 1) for _ in range(2)] == [True, False]
    assert first.row()["paused_at"] is not None
    assert needed(lab) == (2, 2)
