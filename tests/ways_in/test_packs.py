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
def test_one_message_runs_them_all(
    pool: str, start_worker: StartWorker, saga_client: "SagaClient", effects: Effects
) -> None:
    """The first one, then the others side by side; each with tasks of its own, which begin anew, its saga as root."""
    start_worker(arguments=("--pool", pool), env=AMPLE)
    handles = start(saga_client, *[plan()] * 8)
    assert outcomes(handles) == ["COMPLETED"] * 8
    wait_for(lambda: len(told(effects, "postrun")) == 8 * len(STEPS))
    assert [row["step"] for row in told(effects, "received")] == ["scenario.one"]
    begun = told(effects, "prerun")
    ids = [str(handle.saga_id) for handle in handles]
    assert [row["saga_id"] for row in begun] == [ids[0]] * len(STEPS) + ids[1:] * len(STEPS)
    assert [row["step"] for row in begun[4:]] == [f"scenario.{step}" for step in STEPS for _ in ids[1:]]
    for saga_id in ids:
        tasks = [row["detail"] for row in begun if row["saga_id"] == saga_id]
        assert {one["root"] for one in tasks} == {saga_id}
        assert [one["parent"] for one in tasks] == [None, *(one["task_id"] for one in tasks[:-1])]
    assert len({row["detail"]["task_id"] for row in begun}) == 8 * len(STEPS)


def abreast(effects: Effects, handles: list["SagaHandle"]) -> bool:
    """Whether the second of them was between two steps when the third had begun."""
    two = next(row.id for row in effects.find(saga_id=handles[1].saga_id) if row.step == "two")
    return any(row.step == "one" and row.id < two for row in effects.find(saga_id=handles[2].saga_id))


def test_one_of_them_that_takes_long_holds_up_nobody(
    start_worker: StartWorker, saga_client: "SagaClient", effects: Effects, query: Query
) -> None:
    """What the others have done is committed, and they go on elsewhere, while it still runs."""
    start_worker(env={"HODEI_CONTINUATION_MS": "2000"}, concurrency=2)
    handles = start(saga_client, plan(), plan(), plan(two="slow:15"), plan(), plan())
    begun = time.monotonic()
    assert outcomes([*handles[:2], *handles[3:]]) == ["COMPLETED"] * 4
    assert time.monotonic() - begun < 14
    assert handles[2].status().state == "IN_PROGRESS"
    assert abreast(effects, handles)
    assert outcomes(handles) == ["COMPLETED"] * 5
    assert all(len(effects.story(handle.saga_id, ("begin",))) == 4 for handle in handles), "nothing was run twice"
    assert query.value("SELECT max(attempt) FROM saga_steps") == 1
    assert query.value("SELECT count(*) FROM saga_events WHERE event_type = 'StepGivenBack'") == 2
    assert query.value("SELECT count(*) FROM saga_events WHERE event_type = 'AttemptLost'") == 0


def test_when_the_budget_is_used_up_who_has_not_begun_is_given_back(
    start_worker: StartWorker, saga_client: "SagaClient", effects: Effects, query: Query
) -> None:
    start_worker(env={"HODEI_CONTINUATION_MS": "2000"})
    handles = start(saga_client, plan(), plan(), plan(two="slow:2"), plan(), plan())
    assert outcomes(handles) == ["COMPLETED"] * 5
    assert abreast(effects, handles)
    given_back = query("SELECT saga_id, step_name FROM saga_events WHERE event_type = 'StepGivenBack'")
    assert [(row["saga_id"], row["step_name"]) for row in given_back] == [
        (str(handle.saga_id), "two") for handle in handles[3:]
    ]
    assert [row["step"] for row in told(effects, "received")].count("scenario.two") == 2
    parents = {row["detail"]["parent"] for row in told(effects, "prerun") if row["step"] == "scenario.two"}
    assert parents == {row["detail"]["task_id"] for row in told(effects, "prerun") if row["step"] == "scenario.one"}


def test_what_postgresql_refuses_of_one_is_not_the_others_trouble(
    start_worker: StartWorker, saga_client: "SagaClient", effects: Effects, query: Query
) -> None:
    start_worker(queues=["control"], name="control")  # it defines them
    handles = start(saga_client, *[plan()] * 6)
    refused = handles[3].saga_id
    query(
        "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'not this one'; END $$;"
        "CREATE TRIGGER refuse BEFORE UPDATE ON saga_steps FOR EACH ROW"
        f" WHEN (NEW.saga_id = '{refused}' AND NEW.state = 'COMPLETED') EXECUTE FUNCTION refuse()"
    )
    start_worker(queues=["steps", "compensations"], name="steps", env=AMPLE)
    others = [handle for handle in handles if handle.saga_id != refused]
    assert outcomes(others) == ["COMPLETED"] * 5
    assert handles[3].status().state == "IN_PROGRESS"


def test_steps_that_must_not_be_lost_unbegun_wait_for_nobody(
    start_worker: StartWorker, saga_client: "SagaClient", effects: Effects
) -> None:
    """Not idempotent: a claim is an attempt whose outcome would be unknown. From there on one saga after the other."""
    start_worker(env=AMPLE)
    handles = saga_client.start_many("scenario_blind", [plan()] * 5)
    assert outcomes(handles) == ["COMPLETED"] * 5
    first, *others = [str(handle.saga_id) for handle in handles]
    order = [(row.saga_id, row.step) for row in effects.find() if row.kind == "begin"]
    assert order == [
        *((first, step) for step in STEPS),
        *((one, "one") for one in others),
        *((one, step) for one in others for step in STEPS[1:]),
    ]
    assert [row["step"] for row in told(effects, "received")] == ["scenario_blind.one"]


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
    assert query.value("SELECT max(attempt) FROM saga_steps") == 1
    # Who is looked at while the message is being worked on may get another, on a slow machine.
    assert {row["step"] for row in told(effects, "received")} == {"scenario.one"}
