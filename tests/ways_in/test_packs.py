"""One message that brings several sagas, on real workers: fewer messages, and nothing is lost by it (decision 0014)."""

import time
from typing import TYPE_CHECKING, Any

import pytest

from sagas.runtime import packs
from tests.harness.celery_fixtures import SCENARIO, StartBeat, StartWorker
from tests.harness.database import Query
from tests.harness.effects import Effects
from tests.harness.scenario import STEPS, plan
from tests.harness.servers import BrokerServer
from tests.harness.wait import wait_for

if TYPE_CHECKING:
    from sagas import SagaClient, SagaHandle

pytestmark = [pytest.mark.slow, pytest.mark.saga_modules(SCENARIO, "tests.ways_in.watched")]

AMPLE = {"HODEI_CONTINUATION_MS": "10000"}
"""However busy the machine is."""


@pytest.fixture(autouse=True)
def all_in_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packs, "SPREAD", 1)


def start(client: "SagaClient", *plans: dict[str, Any]) -> list["SagaHandle"]:
    return client.start_many("scenario", plans)


def outcomes(handles: list["SagaHandle"]) -> list[str]:
    return [handle.result(timeout=60).outcome for handle in handles]


def told(effects: Effects, kind: str) -> list[dict[str, Any]]:
    found = effects.query("SELECT * FROM effects WHERE kind = %s ORDER BY id", kind)
    return [row for row in found if row["step"].startswith("scenario")]


@pytest.mark.parametrize("pool", ["prefork", "threads", "solo"])
def test_one_message_runs_them_one_after_the_other(
    pool: str, start_worker: StartWorker, saga_client: "SagaClient", effects: Effects
) -> None:
    """Each with tasks of its own, which begin anew: no parent, its saga as root."""
    start_worker(arguments=("--pool", pool), env=AMPLE)
    handles = start(saga_client, *[plan()] * 8)
    assert outcomes(handles) == ["COMPLETED"] * 8
    wait_for(lambda: len(told(effects, "postrun")) == 8 * len(STEPS))
    assert [row["step"] for row in told(effects, "received")] == ["scenario.one"]
    begun = told(effects, "prerun")
    assert [row["saga_id"] for row in begun] == [str(handle.saga_id) for handle in handles for _ in STEPS]
    tasks = [row["detail"] for row in begun]
    assert len({one["task_id"] for one in tasks}) == 8 * len(STEPS)
    assert [one["root"] for one in tasks] == [str(handle.saga_id) for handle in handles for _ in STEPS]
    assert [number for number, one in enumerate(tasks) if one["parent"] is None] == list(range(0, 32, len(STEPS)))


def test_behind_a_slow_one_the_others_get_messages_of_their_own(
    start_worker: StartWorker, saga_client: "SagaClient", effects: Effects
) -> None:
    """The message's budget is for all of them: they wait for one step at most."""
    start_worker(env={"HODEI_CONTINUATION_MS": "500"})
    handles = start(saga_client, plan(one="slow:1"), *[plan()] * 7)
    assert outcomes(handles) == ["COMPLETED"] * 8
    received = [row["step"] for row in told(effects, "received")]
    assert received.count("scenario.one") == 8
    assert len(told(effects, "prerun")) == 8 * len(STEPS)


def test_a_worker_without_continuation_takes_them_apart(
    start_worker: StartWorker, saga_client: "SagaClient", effects: Effects
) -> None:
    start_worker(env={"HODEI_CONTINUATION_MS": "0"})
    assert outcomes(start(saga_client, *[plan()] * 8)) == ["COMPLETED"] * 8
    assert len(told(effects, "received")) == 8 * len(STEPS)


def test_each_fails_and_goes_back_for_itself(
    start_worker: StartWorker, start_beat: StartBeat, saga_client: "SagaClient", effects: Effects
) -> None:
    start_worker(env=AMPLE)
    start_beat()
    handles = start(
        saga_client, plan(four="fail"), plan(), plan(one="fail"), plan(two="flaky"), plan(three="fail"), plan()
    )
    expected = ["COMPENSATED", "COMPLETED", "COMPENSATED", "COMPLETED", "COMPENSATED", "COMPLETED"]
    assert outcomes(handles) == expected
    assert effects.story(handles[0].saga_id, ("undo",)) == ["undo three", "undo two", "undo one"]
    assert effects.story(handles[4].saga_id, ("undo",)) == ["undo two", "undo one"]


def test_behind_a_first_one_that_fails_at_once(
    start_worker: StartWorker, saga_client: "SagaClient", effects: Effects
) -> None:
    """Celery's report of a failed task has no room for others: they are sent apart."""
    start_worker(env=AMPLE)
    handles = start(saga_client, plan(one="fail"), *[plan()] * 3)
    assert outcomes(handles) == ["COMPENSATED", "COMPLETED", "COMPLETED", "COMPLETED"]
    assert [row["step"] for row in told(effects, "received")].count("scenario.one") == 4


def test_a_process_that_dies_takes_none_with_it(
    start_worker: StartWorker, start_beat: StartBeat, saga_client: "SagaClient", effects: Effects
) -> None:
    """P2: in the second one's second step, with six behind it."""
    start_worker(env=AMPLE)
    start_beat()
    begun = time.monotonic()
    handles = start(saga_client, plan(), plan(two="die"), *[plan()] * 6)
    assert outcomes(handles) == ["COMPLETED"] * 8
    assert time.monotonic() - begun < 20
    assert effects.story(handles[1].saga_id, ("begin",)).count("begin two") == 2
    assert all(len(effects.story(handle.saga_id, ("begin",))) == 4 for handle in (handles[0], *handles[2:]))


def test_a_broker_that_forgets_takes_none_with_it(
    start_worker: StartWorker,
    start_beat: StartBeat,
    saga_client: "SagaClient",
    broker_server: BrokerServer,
    query: Query,
    effects: Effects,
) -> None:
    """P2, R22: the message is missed once, and is sent again with all that it brings."""
    start_worker(queues=["control"], name="control")
    handles = start(saga_client, *[plan()] * 20)
    with broker_server.client() as broker:
        assert broker.llen("steps") == 2
        broker_server.flush()
        start_beat()
        wait_for(lambda: broker.llen("steps") > 0, 20)
        time.sleep(3)
        assert broker.llen("steps") == 2
    start_worker(queues=["steps", "compensations"], name="steps", env=AMPLE)
    assert outcomes(handles) == ["COMPLETED"] * 20
    assert query.value("SELECT sum(republished) FROM saga_steps") == 0, "claims have reset it"
    assert [row["step"] for row in told(effects, "received")] == ["scenario.one"] * 2
