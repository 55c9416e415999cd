"""Local continuation on real workers: fewer messages, and nothing else that a user could see (design 6.5)."""

import threading
from collections.abc import Iterator
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pytest
from celery import Celery

from tests.harness.celery_fixtures import SCENARIO, StartBeat, StartWorker
from tests.harness.effects import Effects
from tests.harness.scenario import STEPS, plan
from tests.harness.wait import wait_for

if TYPE_CHECKING:
    from sagas import SagaClient

pytestmark = [pytest.mark.slow, pytest.mark.saga_modules(SCENARIO, "tests.ways_in.watched")]

AMPLE = {"HODEI_CONTINUATION_MS": "10000"}
"""However busy the machine is."""
TASKS = [f"scenario.{step}" for step in STEPS]


def seen(effects: Effects, *kinds: str) -> list[dict[str, Any]]:
    """What the worker's signals told of the sagas' tasks, in order."""
    found = effects.query("SELECT * FROM effects WHERE kind = ANY (%s) ORDER BY id", list(kinds))
    return [row for row in found if row["step"].startswith("scenario") or row["step"] == "sagas.compensate"]


def names(effects: Effects, kind: str) -> list[str]:
    return [row["step"] for row in seen(effects, kind)]


@pytest.mark.parametrize("pool", ["prefork", "threads", "solo"])
def test_one_message_runs_all_steps_and_each_is_a_task_of_its_own(
    pool: str, start_worker: StartWorker, saga_client: "SagaClient", effects: Effects
) -> None:
    """Signals in each step's own order, ids and parents as a chain's; in one process."""
    start_worker(arguments=("--pool", pool), env=AMPLE)
    handle = saga_client.start("scenario", plan())
    assert handle.result(timeout=30).outcome == "COMPLETED"
    wait_for(lambda: len(seen(effects, "postrun")) == len(STEPS))
    assert names(effects, "received") == TASKS[:1]
    around = seen(effects, "prerun", "postrun")
    assert [(row["kind"], row["step"]) for row in around] == [
        (kind, name) for name in TASKS for kind in ("prerun", "postrun")
    ]
    assert {row["detail"]["state"] for row in around if row["kind"] == "postrun"} == {"SUCCESS"}
    begun = [row["detail"] for row in around if row["kind"] == "prerun"]
    ids = [one["task_id"] for one in begun]
    assert len(set(ids)) == len(STEPS)
    assert [one["current"] for one in begun] == ids
    assert [one["parent"] for one in begun] == [None, *ids[:-1]]
    assert {one["root"] for one in begun} == {str(handle.saga_id)}
    assert len({row["pid"] for row in around}) == 1


def test_off_each_step_has_a_message(start_worker: StartWorker, saga_client: "SagaClient", effects: Effects) -> None:
    start_worker(env={"HODEI_CONTINUATION_MS": "0"})
    assert saga_client.start("scenario", plan()).result(timeout=30).outcome == "COMPLETED"
    assert names(effects, "received") == TASKS


def test_a_message_whose_time_is_used_up_publishes_the_next(
    start_worker: StartWorker, saga_client: "SagaClient", effects: Effects
) -> None:
    """The budget is the message's: after a slow step the rest has a message of its own, and goes on there."""
    start_worker(env={"HODEI_CONTINUATION_MS": "3000"})
    assert saga_client.start("scenario", plan(two="slow:3.5")).result(timeout=30).outcome == "COMPLETED"
    assert names(effects, "received") == ["scenario.one", "scenario.three"]
    assert names(effects, "prerun") == TASKS


UNDOS = [f"scenario.{step}.compensate" for step in ("three", "two", "one")]


def came_back(saga_client: "SagaClient", effects: Effects) -> None:
    """A saga whose last step fails is undone, by all the tasks that do it one by one."""
    handle = saga_client.start("scenario", plan(four="fail"))
    assert handle.result(timeout=30).outcome == "COMPENSATED"
    wait_for(lambda: len(names(effects, "postrun")) == 8)
    assert names(effects, "postrun") == [*TASKS, "sagas.compensate", *UNDOS]
    assert effects.story(handle.saga_id, ("undo",)) == ["undo three", "undo two", "undo one"]
    around = seen(effects, "prerun", "postrun")
    begun = {row["step"]: row["detail"] for row in around if row["kind"] == "prerun"}
    assert begun["sagas.compensate"]["parent"] == begun["scenario.four"]["task_id"]
    assert {one["root"] for one in begun.values()} == {str(handle.saga_id)}
    states = {row["step"]: row["detail"]["state"] for row in around if row["kind"] == "postrun"}
    assert states.pop("scenario.four") == "FAILURE"
    assert set(states.values()) == {"SUCCESS"}


def test_undos_go_on_too(start_worker: StartWorker, saga_client: "SagaClient", effects: Effects) -> None:
    """The way back, by the same message: this worker consumes the queue that the link_error would go to."""
    start_worker(env=AMPLE)
    came_back(saga_client, effects)
    assert names(effects, "received") == ["scenario.one"]


def test_where_compensations_are_another_workers_they_stay_so(
    start_worker: StartWorker, saga_client: "SagaClient", effects: Effects
) -> None:
    """The failed step's link_error is published; that message runs all undos."""
    start_worker(queues=("steps", "control"), name="steps", env=AMPLE)
    start_worker(queues=("compensations",), name="back", env=AMPLE)
    came_back(saga_client, effects)
    assert names(effects, "received") == ["scenario.one", "sagas.compensate"]
    assert len({row["pid"] for row in seen(effects, "prerun")}) == 2


def test_a_worker_knows_what_it_consumes_just_now(
    start_worker: StartWorker, saga_client: "SagaClient", effects: Effects, broker_url: str
) -> None:
    """`celery control cancel_consumer` and `add_consumer`, also for the children of its pool, forked before."""
    start_worker(env=AMPLE)
    with Celery("operator", broker=broker_url) as operator:
        operator.conf.broker_pool_limit = 0  # kombu's pools are the process's: theirs may be of another test's broker
        operator.control.cancel_consumer("compensations", reply=True)
        handle = saga_client.start("scenario", plan(four="fail"))
        wait_for(lambda: len(names(effects, "postrun")) == len(TASKS))
        operator.control.add_consumer("compensations", reply=True)
    assert handle.result(timeout=30).outcome == "COMPENSATED"
    wait_for(lambda: len(names(effects, "postrun")) == 8)
    assert names(effects, "received") == ["scenario.one", "sagas.compensate"]
    assert saga_client.start("scenario", plan(four="fail")).result(timeout=30).outcome == "COMPENSATED"
    wait_for(lambda: len(names(effects, "postrun")) == 16)
    assert names(effects, "received") == ["scenario.one", "sagas.compensate", "scenario.one"]


def test_a_death_on_the_way_back_loses_nothing(
    start_worker: StartWorker, start_beat: StartBeat, saga_client: "SagaClient", effects: Effects
) -> None:
    """P1: there is no message of a link_error any more; the saga's row says that it is to be undone."""
    start_worker(env=AMPLE)
    start_beat()
    handle = saga_client.start("scenario", plan(undo_three="die", four="fail"))
    assert handle.result(timeout=60).outcome == "COMPENSATED"


def test_a_process_that_dies_in_a_continued_step_loses_nothing(
    start_worker: StartWorker, start_beat: StartBeat, saga_client: "SagaClient", effects: Effects
) -> None:
    """P1, R11: its message named an earlier step; the claim tells where it was."""
    start_worker(env=AMPLE)
    start_beat()
    handle = saga_client.start("scenario", plan(three="die"))
    assert handle.result(timeout=30).outcome == "COMPLETED"
    begun = effects.story(handle.saga_id, ("begin",))
    assert begun == ["begin one", "begin two", "begin three", "begin three", "begin four"]


@pytest.fixture
def events(broker_url: str) -> Iterator[list[dict[str, Any]]]:
    """Celery's own events as they come, heard by another app, as Flower does."""
    heard: list[dict[str, Any]] = []
    done = threading.Event()

    def listen() -> None:
        with Celery("listener", broker=broker_url) as app, app.connection_for_read() as connection:
            receiver = app.events.Receiver(connection, handlers={"*": heard.append})
            while not done.is_set():
                try:
                    receiver.capture(limit=None, timeout=0.5, wakeup=False)
                except TimeoutError:
                    continue

    thread = threading.Thread(target=listen, daemon=True)
    thread.start()
    yield heard
    done.set()
    thread.join(10)


def test_events_tell_of_each_step(
    events: list[dict[str, Any]], start_worker: StartWorker, saga_client: "SagaClient", effects: Effects
) -> None:
    """What Flower shows: received, started and ended, with the times at which that was."""
    start_worker(arguments=("-E",), env=AMPLE)
    handle = saga_client.start("scenario", plan(four="fail"))
    assert handle.result(timeout=30).outcome == "COMPENSATED"

    def stories() -> dict[str, list[dict[str, Any]]]:
        found: dict[str, list[dict[str, Any]]] = {}
        for event in list(events):
            if event["type"].startswith("task-"):
                found.setdefault(event["uuid"], []).append(event)
        names = {*TASKS, "sagas.compensate", *UNDOS}
        return {told[0]["name"]: told for told in found.values() if told[0]["name"] in names}

    wait_for(
        lambda: len(stories()) == 8 and all(len(told) == 3 for told in stories().values()), 15, lambda: str(stories())
    )
    told = stories()
    for name, (received, started, ended) in told.items():
        assert (received["type"], started["type"]) == ("task-received", "task-started")
        assert ended["type"] == ("task-failed" if name == "scenario.four" else "task-succeeded"), ended
        assert received["root_id"] == str(handle.saga_id)
        assert str(handle.saga_id) in received["kwargs"]
    for before, after in pairwise(TASKS):
        assert told[after][0]["parent_id"] == told[before][0]["uuid"]
        assert told[before][2]["timestamp"] <= told[after][2]["timestamp"]
    assert told["sagas.compensate"][0]["parent_id"] == told["scenario.four"][0]["uuid"]
    assert "PermanentError" in told["scenario.four"][2]["exception"]
    assert "Traceback" in told["scenario.four"][2]["traceback"]
