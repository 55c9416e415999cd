"""US-3.2: the dispatcher starts sagas and nothing else; one key for a job and its round."""

import inspect
from concurrent.futures import ThreadPoolExecutor

import pytest

from sagas import SagaType
from sagas.jobs.types import JobId, JobOutcome, WorkerId
from tasks.dispatcher import JobDispatcher


def sagas(query, saga_type: str) -> list[dict]:
    return query("SELECT * FROM saga_instances WHERE saga_type = %s ORDER BY started_at", saga_type)


def later(query, seconds: float) -> None:
    """Move the clock of record."""
    query(
        "CREATE OR REPLACE FUNCTION saga_now() RETURNS timestamptz LANGUAGE sql VOLATILE AS "
        f"$$ SELECT clock_timestamp() + interval '{seconds} s' $$"
    )


def test_three_calls_for_one_job_are_one_provisioning_saga(platform, rows, query) -> None:
    """L9, L17: no cooldown map: the rows know. The seed: no_duplicate_provisioning_tracking_needed."""
    rows.provider()
    job_id = rows.job()
    started = {platform.dispatcher.handle_no_available_workers(job_id) for _ in range(3)}
    (saga,) = sagas(query, SagaType.PROVISIONING)
    assert {str(one) for one in started} == {saga["saga_id"]}
    assert platform.orchestrator.is_idempotent(SagaType.PROVISIONING, f"job:{job_id}:0")
    assert not hasattr(platform.dispatcher, "recently_provisioned")


def test_calls_at_the_same_time_are_one_saga(platform, rows, query) -> None:
    """L7: one message delivered several times, at the same time, made two sagas."""
    rows.provider()
    job_id = rows.job()
    with ThreadPoolExecutor(5) as pool:
        started = set(pool.map(platform.dispatcher.handle_no_available_workers, [job_id] * 5))
    assert len(started) == len(sagas(query, SagaType.PROVISIONING)) == 1


def test_rounds_without_a_worker_make_one_create(platform, rows, query) -> None:
    """L17: provisioning without end while no worker came up."""
    rows.provider(capacity=5)
    rows.job()
    rounds = [platform.dispatcher.dispatch_once() for _ in range(4)]
    assert [len(one.provisionings) for one in rounds] == [1, 0, 0, 0]
    assert len(sagas(query, SagaType.PROVISIONING)) == 1


def test_a_round_that_made_no_worker_is_followed_by_another_after_a_pause(platform, rows, query) -> None:
    provider_id = rows.provider()
    job_id = rows.job()
    first = platform.dispatcher.handle_no_available_workers(job_id)
    query("UPDATE providers SET capacity = 0")
    platform.engine.orchestrator.drive(first)
    query("UPDATE providers SET capacity = 2")
    assert platform.dispatcher.handle_no_available_workers(job_id) == first, "not at once"
    later(query, 2)
    second = platform.dispatcher.handle_no_available_workers(job_id)
    assert second not in (None, first)
    keys = [saga["idempotency_key"] for saga in sagas(query, SagaType.PROVISIONING)]
    assert keys == [f"job:{job_id}:0", f"job:{job_id}:1"]
    workers = {saga["context"]["payload"]["worker_id"] for saga in sagas(query, SagaType.PROVISIONING)}
    assert len(workers) == 2 and provider_id


def test_a_worker_whose_row_is_held_for_a_moment_is_not_doubled(platform, rows, records) -> None:
    """L9: a heartbeat holds the only idle worker's row: wait a round, do not make another worker."""
    worker_id = rows.ready_worker(rows.provider(capacity=5))
    rows.job()
    with records() as r:
        assert r.workers.seen(worker_id, "instance")
        done = platform.dispatcher.dispatch_once()
        assert (done.executions, done.provisionings) == ([], [])
    assert len(platform.dispatcher.dispatch_once().executions) == 1


def test_no_more_workers_are_asked_for_than_there_are_slots(platform, rows, query) -> None:
    rows.provider(capacity=2)
    for _ in range(5):
        rows.job()
    assert len(platform.dispatcher.dispatch_once().provisionings) == 2
    assert len(platform.dispatcher.dispatch_once().provisionings) == 0
    rows.provider(capacity=1, host="there")
    assert len(platform.dispatcher.dispatch_once().provisionings) == 1


def test_without_a_provider_a_job_waits(platform, rows, query) -> None:
    job_id = rows.job()
    assert platform.dispatcher.handle_no_available_workers(job_id) is None
    assert platform.dispatcher.dispatch_once().provisionings == []
    assert query.value("SELECT state FROM jobs") == "PENDING"


def test_assign_and_dispatch_delegates_to_the_saga(platform, rows, query) -> None:
    worker_id, job_id = rows.ready_worker(rows.provider()), rows.job()
    saga_id = platform.dispatcher.assign_and_dispatch(job_id, worker_id)
    (saga,) = sagas(query, SagaType.EXECUTION)
    assert saga["saga_id"] == str(saga_id)
    payload = saga["context"]["payload"]
    assert (payload["job_id"], payload["worker_id"]) == (str(job_id), str(worker_id))
    assert query.value("SELECT owner_saga_id FROM jobs") == str(saga_id)


def test_assign_and_dispatch_is_short() -> None:
    assert len(inspect.getsource(JobDispatcher.assign_and_dispatch).splitlines()) < 60


def test_two_ways_to_dispatch_one_job_are_one_dispatch(platform, rows, query) -> None:
    """L8: two consumers of one event both dispatched the job."""
    worker_id, job_id = rows.ready_worker(rows.provider()), rows.job()
    assert platform.dispatcher.assign_and_dispatch(job_id, worker_id) is not None
    assert platform.dispatcher.assign_and_dispatch(job_id, worker_id) is None
    assert platform.dispatcher.dispatch_once().executions == []
    with ThreadPoolExecutor(4) as pool:
        other = rows.job()
        free = rows.ready_worker(rows.provider())
        started = list(pool.map(lambda _: platform.dispatcher.assign_and_dispatch(other, free), range(4)))
    assert len([one for one in started if one]) == 1
    assert len(sagas(query, SagaType.EXECUTION)) == 2


def test_dispatch_once_gives_each_ready_worker_one_job(platform, rows, query) -> None:
    provider_id = rows.provider(capacity=2)
    workers = {rows.ready_worker(provider_id), rows.ready_worker(provider_id)}
    late, urgent, usual = rows.job(priority=9), rows.job(priority=0), rows.job()
    assert len(platform.dispatcher.dispatch_once().executions) == 2
    payloads = [saga["context"]["payload"] for saga in sagas(query, SagaType.EXECUTION)]
    assert [payload["job_id"] for payload in payloads] == [str(urgent), str(usual)]
    assert {payload["worker_id"] for payload in payloads} == {str(worker) for worker in workers}
    assert sagas(query, SagaType.PROVISIONING) == [], f"no slot is left for {late}"


@pytest.mark.parametrize("state", ["ASSIGNED", "SUCCEEDED"])
def test_a_job_that_does_not_wait_is_left_alone(platform, rows, query, state) -> None:
    provider_id = rows.provider()
    worker_id = rows.ready_worker(provider_id)
    job_id, assignment_id = rows.assigned_job(worker_id)
    if state == "SUCCEEDED":
        with rows.records() as records:
            records.runs.finish(job_id, worker_id, assignment_id, JobOutcome.SUCCEEDED)
    assert platform.dispatcher.assign_and_dispatch(job_id, rows.ready_worker(provider_id)) is None
    assert platform.dispatcher.handle_no_available_workers(job_id) is None
    assert query.value("SELECT count(*) FROM saga_instances") == 0


def test_what_nobody_knows_is_not_dispatched(platform, rows, query) -> None:
    assert platform.dispatcher.assign_and_dispatch(JobId.new(), WorkerId.new()) is None
    assert platform.dispatcher.assign_and_dispatch(rows.job(), WorkerId.new()) is None
    assert platform.dispatcher.handle_no_available_workers(JobId.new()) is None
    assert query.value("SELECT count(*) FROM saga_instances") == 0
