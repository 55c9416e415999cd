"""A worker's life as verbs."""

import pytest

from models import ProviderNotFound
from sagas.jobs.types import ProviderId, WorkerId
from tests.platform.conftest import SPEC


@pytest.fixture
def worker_id(rows, records) -> WorkerId:
    """A worker that is CREATING, its only token is `token`."""
    provider_id, worker_id = rows.provider(), WorkerId.new()
    with records() as r:
        assert r.workers.reserve(worker_id, provider_id, SPEC)
    return worker_id


def row(query) -> dict:
    (found,) = query("SELECT * FROM workers")
    return found


def issue(records, worker_id) -> str:
    with records() as r:
        return r.workers.issue_token(worker_id)


def test_the_life_of_a_worker(worker_id, records, query, events) -> None:
    token = issue(records, worker_id)
    with records() as r:
        r.workers.created(worker_id, "pid 4711")
        assert not r.workers.ready(worker_id), "nobody is READY before its agent has registered"
        assert r.workers.register(worker_id, token, "a")
        assert r.workers.ready(worker_id)
        assert not r.workers.ready(worker_id)
        r.workers.unregister(worker_id)
        r.workers.unregister(worker_id)
    assert (row(query)["state"], row(query)["reference"], row(query)["wake_at"]) == ("TERMINATED", "pid 4711", None)
    changed = "WorkerStatusChanged"
    assert events(f"worker:{worker_id}") == [changed, changed, "WorkerRegistered", *[changed] * 4]


def test_an_agent_may_be_faster_than_the_record_of_its_creation(worker_id, records, query) -> None:
    """L3: the agent registers while CreateInfrastructure is not committed yet."""
    token = issue(records, worker_id)
    with records() as r:
        assert r.workers.register(worker_id, token, "a")
        r.workers.created(worker_id, "pid 1")
        assert r.workers.ready(worker_id)
    assert (row(query)["state"], row(query)["reference"]) == ("READY", "pid 1")


def test_a_token_is_good_once_but_for_its_own_instance(worker_id, records, query, events) -> None:
    first, second = issue(records, worker_id), issue(records, worker_id)
    with records() as r:
        assert not r.workers.register(worker_id, "guessed", "a")
        assert not r.workers.register(WorkerId.new(), first, "a")
        assert r.workers.register(worker_id, second, "a")
        assert r.workers.register(worker_id, second, "a"), "the answer was lost: the same instance asks again"
        assert not r.workers.register(worker_id, second, "b")
        assert not r.workers.register(worker_id, first, "b")
    assert events(f"worker:{worker_id}").count("WorkerRegistered") == 1
    assert first not in str(row(query)) and second not in str(row(query)), "tokens are stored hashed"


def test_a_worker_that_goes_cannot_register(worker_id, records) -> None:
    token = issue(records, worker_id)
    with records() as r:
        r.workers.retire(worker_id)
        assert not r.workers.register(worker_id, token, "a")


def test_a_heartbeat_is_of_the_registered_instance(worker_id, records, query) -> None:
    token = issue(records, worker_id)
    with records() as r:
        assert r.workers.seen(worker_id, "a"), "L3: heartbeats may come before the registration"
        r.workers.register(worker_id, token, "a")
        assert r.workers.seen(worker_id, "a")
        assert not r.workers.seen(worker_id, "b")
        assert not r.workers.seen(WorkerId.new(), "a")
    assert row(query)["last_seen_at"] is not None


def test_reserving_twice_is_one_slot(rows, records, query) -> None:
    provider_id, worker_id = rows.provider(capacity=2), WorkerId.new()
    with records() as r:
        assert r.providers.lock_slots(provider_id) == 2
        assert r.workers.reserve(worker_id, provider_id, SPEC)
        assert not r.workers.reserve(worker_id, provider_id, SPEC)
        assert r.providers.lock_slots(provider_id) == 1
        r.workers.unregister(worker_id)
        assert r.providers.lock_slots(provider_id) == 2


def test_a_provider_is_known_once_and_keeps_its_capacity(rows, records) -> None:
    first = rows.provider(capacity=2)
    assert rows.provider(capacity=9) == first
    with records() as r:
        assert r.providers.get(first).capacity == 2
        with pytest.raises(ProviderNotFound, match="no provider"):
            r.providers.lock_slots(ProviderId.new())


def test_only_a_worker_without_a_live_job_is_freed(rows, records, query) -> None:
    worker_id = rows.ready_worker(rows.provider())
    rows.assigned_job(worker_id)
    with records() as r:
        assert not r.workers.free(worker_id)
        assert not r.workers.occupy(worker_id)
    assert row(query)["state"] == "BUSY"


def test_two_dispatchers_get_two_workers(rows, records) -> None:
    provider_id = rows.provider()
    rows.ready_worker(provider_id), rows.ready_worker(provider_id)
    with records() as one, records() as other:
        first, second = one.workers.claim_ready(20), other.workers.claim_ready(20)
        assert first is not None and second is not None and first.worker_id != second.worker_id
