"""Issue 4: what jobs ask of their workers, matched to workers and providers by the dispatcher."""

import pytest

from models import Providers
from sagas import SagaState, SagaType
from sagas.jobs.ports import WorkerProvider
from sagas.jobs.requirements import Requirements, Resources
from sagas.jobs.types import JobId, WorkerId, WorkerSpec
from tasks.dispatcher import MOST_AT_ONCE
from tests.platform.conftest import SPEC
from tests.platform.ports import FastAgents
from tests.platform.test_dispatcher import later, sagas

GPU = Requirements({"gpu": "yes"})
HUGE = Requirements(resources=Resources(cpu=1000))


def spec(**what: object) -> WorkerSpec:
    labels = {name: value for name, value in what.items() if isinstance(value, str)}
    cpu, memory = what.get("cpu"), what.get("memory")
    return SPEC.meeting(Requirements(labels, Resources(cpu, memory)))  # type: ignore[arg-type]


def dispatched(query) -> dict[str, str]:
    """Which worker each job was sent to."""
    payloads = [saga["context"]["payload"] for saga in sagas(query, SagaType.EXECUTION)]
    return {payload["job_id"]: payload["worker_id"] for payload in payloads}


def job_row(query, job_id: JobId) -> dict:
    (row,) = query("SELECT * FROM jobs WHERE job_id = %s", str(job_id))
    return row


@pytest.mark.parametrize(
    ("asked", "given", "meets"),
    [
        (GPU, {"gpu": "yes", "zone": "a"}, True),
        (GPU, {"gpu": "no"}, False),
        (GPU, {}, False),
        (Requirements(resources=Resources(cpu=2)), {"cpu": 2.0}, True),
        (Requirements(resources=Resources(cpu=2)), {"cpu": 1.5}, False),
        (Requirements(resources=Resources(cpu=2)), {}, False),
        (Requirements(resources=Resources(memory=2**33)), {"memory": 2**33}, True),
        (Requirements(resources=Resources(memory=2**33)), {"memory": 2**33 - 1}, False),
        (Requirements(), {"gpu": "yes", "cpu": 4.0}, True),
    ],
)
def test_a_ready_worker_gets_the_job_only_if_it_is_what_the_job_asks_for(
    platform, rows, query, asked, given, meets
) -> None:
    worker_id = rows.ready_worker(rows.provider(capacity=1), spec(**given))
    job_id = rows.job(requirements=asked)
    assert len(platform.dispatcher.dispatch_once().executions) == meets
    assert dispatched(query) == ({str(job_id): str(worker_id)} if meets else {})
    assert (platform.dispatcher.assign_and_dispatch(rows.job(requirements=asked), worker_id) is not None) == meets


def test_among_the_ready_workers_a_matching_one_is_taken(platform, rows, query) -> None:
    provider_id = rows.provider(capacity=3)
    rows.ready_worker(provider_id)
    fitting = rows.ready_worker(provider_id, spec(gpu="yes", cpu=2.0))
    job_id = rows.job(requirements=Requirements({"gpu": "yes"}, Resources(cpu=1)))
    platform.dispatcher.dispatch_once()
    assert dispatched(query) == {str(job_id): str(fitting)}
    assert sagas(query, SagaType.PROVISIONING) == [], "a slot is free, and yet ready workers come first"


def test_a_worker_has_its_providers_labels_too(platform, rows, query) -> None:
    worker_id = rows.ready_worker(rows.provider(labels={"gpu": "yes"}))
    job_id = rows.job(requirements=GPU)
    platform.dispatcher.dispatch_once()
    assert dispatched(query) == {str(job_id): str(worker_id)}


@pytest.mark.parametrize("ever", [True, False])
def test_a_job_that_nothing_matches_does_not_block_those_behind_it(platform, rows, query, events, ever) -> None:
    """Whether it waits for room, or for what no provider can make."""
    worker_id = rows.ready_worker(rows.provider(capacity=1, resources=Resources(cpu=2000 if ever else 8)))
    hopeless = [rows.job(requirements=HUGE, priority=0) for _ in range(MOST_AT_ONCE + 5)]
    usual = rows.job(priority=9)
    platform.dispatcher.dispatch_once()
    assert dispatched(query) == {str(usual): str(worker_id)}
    assert query.value("SELECT count(*) FROM jobs WHERE blocked IS NOT NULL") == (0 if ever else len(hopeless))
    assert events(f"job:{hopeless[-1]}") == ["JobSubmitted", *([] if ever else ["JobBlocked"])]


def test_what_no_provider_can_ever_make_is_told_once_and_looked_at_again(platform, rows, query, events) -> None:
    rows.provider(resources=Resources(cpu=8))
    job_id = rows.job(requirements=HUGE)
    for seconds in (0, 20, 40):
        later(query, seconds)
        platform.dispatcher.dispatch_once()
    row = job_row(query, job_id)
    assert row["state"] == "PENDING" and row["not_before"] > row["created_at"]
    assert row["blocked"] == "no provider can make a worker with cpu 1000; see: hodei provider list"
    assert events(f"job:{job_id}") == ["JobSubmitted", "JobBlocked"]
    rows.provider(host="big", resources=Resources(cpu=2000))
    later(query, 60)
    assert len(platform.dispatcher.dispatch_once().provisionings) == 1
    assert (job_row(query, job_id)["blocked"], job_row(query, job_id)["not_before"]) == (None, None)


def test_what_must_only_wait_for_room_is_not_called_impossible(platform, rows, query) -> None:
    rows.ready_worker(rows.provider(capacity=1, labels={"gpu": "yes"}), spec(cpu=1.0))
    job_id = rows.job(requirements=Requirements({"gpu": "yes"}, Resources(cpu=2)))
    assert platform.dispatcher.dispatch_once().provisionings == []
    assert platform.dispatcher.handle_no_available_workers(job_id) is None
    assert job_row(query, job_id)["blocked"] is None


def test_without_any_provider_nothing_is_called_impossible(platform, rows, query) -> None:
    job_id = rows.job(requirements=HUGE)
    platform.dispatcher.dispatch_once()
    assert job_row(query, job_id)["blocked"] is None
    rows.provider()
    assert len(platform.dispatcher.dispatch_once().provisionings) == 1, "a provider without a number has no limit"


def test_the_provider_that_can_make_it_makes_it_as_the_job_asks_and_the_job_gets_it(make_platform, rows, query) -> None:
    """A worker is provisioned with its job's requirements as its spec; the next round finds that it matches."""
    agents = FastAgents(lambda worker_id, token: _register(rows, worker_id, token))
    platform = make_platform(ports={WorkerProvider: agents})
    rows.provider(capacity=9, host="plain")
    able = rows.provider(capacity=1, host="able", labels={"gpu": "yes"}, resources=Resources(4, 2**34))
    asked = Requirements({"gpu": "yes"}, Resources(cpu=1.5, memory=2**29))
    job_id = rows.job(requirements=asked)
    (saga_id,) = platform.dispatcher.dispatch_once().provisionings
    (saga,) = sagas(query, SagaType.PROVISIONING)
    assert saga["context"]["payload"]["provider_id"] == str(able)
    assert platform.engine.orchestrator.drive(saga_id).outcome is SagaState.COMPLETED
    (made,) = [call.spec for call in agents.calls]
    assert made is not None and (dict(made.labels), made.resources) == (dict(asked.labels), asked.resources)
    assert len(platform.dispatcher.dispatch_once().executions) == 1
    assert list(dispatched(query)) == [str(job_id)]


def test_a_worker_that_comes_up_while_the_dispatcher_looks_is_not_doubled(make_platform, rows, query, monkeypatch):
    """L9, L17: no READY worker a moment ago, its saga COMPLETED a moment later: that is no reason for another one."""
    agents = FastAgents(lambda worker_id, token: _register(rows, worker_id, token))
    platform = make_platform(ports={WorkerProvider: agents})
    rows.provider(capacity=9)
    rows.job()
    (saga_id,) = platform.dispatcher.dispatch_once().provisionings
    with_room = Providers.with_room

    def meanwhile(*words, **options):
        assert platform.engine.orchestrator.drive(saga_id).outcome is SagaState.COMPLETED
        return with_room(*words, **options)

    with monkeypatch.context() as patch:
        patch.setattr(Providers, "with_room", meanwhile)
        done = platform.dispatcher.dispatch_once()
    assert (done.executions, done.provisionings) == ([], [])
    assert len(platform.dispatcher.dispatch_once().executions) == 1
    assert query.value("SELECT count(*) FROM workers") == 1


def _register(rows, worker_id: WorkerId, token: str) -> None:
    with rows.records() as records:
        assert records.workers.register(worker_id, token, "instance")


def test_cores_and_memory_are_given_once(platform, rows, query) -> None:
    """Two sagas cannot take the last cores: neither while they are promised, nor when they are reserved."""
    rows.provider(capacity=9, resources=Resources(cpu=3, memory=2**32))
    two = Requirements(resources=Resources(cpu=2))
    first, second = rows.job(requirements=two), rows.job(requirements=two)
    rows.job(requirements=Requirements(resources=Resources(cpu=0.5, memory=2**31)))
    assert len(platform.dispatcher.dispatch_once().provisionings) == 2
    asking = query("SELECT job_id FROM jobs WHERE provisioning_saga_id IS NULL")
    assert [row["job_id"] for row in asking] == [str(second)]
    provider_id = query.value("SELECT provider_id FROM providers")
    kept = WorkerId.new()
    with rows.records() as records:
        assert records.providers.lock_slots(provider_id, two.resources) == 9
        records.workers.reserve(kept, provider_id, SPEC.meeting(two))
        assert records.providers.lock_slots(provider_id, two.resources) == 0
        assert records.providers.lock_slots(provider_id, Resources(cpu=1)) == 8
    assert first is not None


def test_a_message_may_ask_too_and_nonsense_is_refused_before_anything_is_written(platform, query) -> None:
    """P12; `jobs.submit` with a broker alone."""
    task = platform.app.tasks["jobs.submit"]
    asked = {"labels": {"gpu": "yes"}, "resources": {"memory": 1024}}
    task.apply(kwargs={"command": {"argv": ["true"]}, "requirements": asked}, throw=True)
    assert query.value("SELECT requirements FROM jobs") == asked
    with pytest.raises(ValueError, match="requirements: only"):
        task.apply(kwargs={"command": {"argv": ["true"]}, "requirements": {"gpu": "yes"}}, throw=True)
    assert query.value("SELECT count(*) FROM jobs") == 1
