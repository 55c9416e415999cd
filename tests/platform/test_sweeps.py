"""US-4.2 of the seed: what the lifecycle manager looks for, and that it starts sagas for it and does nothing else."""

import pytest

from sagas import SagaId, SagaState
from sagas.jobs.ports import ProviderUnavailable, WorkerProvider
from sagas.jobs.types import WorkerId
from tasks import provider_host, reports
from tasks.lifecycle import WorkerLifecycleManager
from tasks.worker_settings import WorkerSettings
from tests.platform.conftest import SPEC
from tests.platform.ports import FastAgents


@pytest.fixture
def provider() -> FastAgents:
    return FastAgents()


@pytest.fixture
def platform(make_platform, provider):
    return make_platform(ports={WorkerProvider: provider})


@pytest.fixture
def lifecycle(platform) -> WorkerLifecycleManager:
    return platform.lifecycle


@pytest.fixture
def silent(query):
    """Make a worker silent, of which we would have heard."""

    def silence(worker_id: WorkerId) -> None:
        query("UPDATE workers SET last_seen_at = saga_now() - interval '1 hour' WHERE worker_id = %s", str(worker_id))
        query("DELETE FROM hearings")
        query("INSERT INTO hearings VALUES ('heartbeats', saga_now() - interval '1 hour', saga_now())")

    return silence


@pytest.fixture
def worker(rows, provider) -> WorkerId:
    """READY, with its infrastructure."""
    worker_id = rows.ready_worker(rows.provider())
    provider.create_worker(worker_id, SPEC, "token")
    return worker_id


def state(query, worker_id: WorkerId) -> str:
    return query.value("SELECT state FROM workers WHERE worker_id = %s", str(worker_id))


def reason(query, saga_id: SagaId) -> str:
    return query.value("SELECT context->'payload'->>'reason' FROM saga_instances WHERE saga_id = %s", str(saga_id))


def test_a_silent_idle_worker_is_terminated(lifecycle, platform, worker, silent, provider, query) -> None:
    """One saga, however often it is looked for; a process that only hangs is destroyed."""
    silent(worker)
    (saga_id,) = lifecycle.run_reconciliation().terminations
    assert lifecycle.run_reconciliation().terminations == []
    assert platform.dispatcher.dispatch_once().executions == []
    assert platform.engine.orchestrator.drive(saga_id).outcome is SagaState.COMPLETED
    assert (state(query, worker), provider.find_workers()) == ("TERMINATED", [])


def test_a_silent_idle_worker_that_speaks_again_is_left_alone(lifecycle, platform, worker, silent, query) -> None:
    """CANCELLED; and its next silence is another saga."""
    silent(worker)
    (first,) = lifecycle.check_heartbeats().terminations
    reports.heartbeat(platform, str(worker), "instance", [], [])
    assert platform.engine.orchestrator.drive(first).outcome is SagaState.CANCELLED
    assert state(query, worker) == "READY"
    silent(worker)
    (second,) = lifecycle.check_heartbeats().terminations
    assert second != first


def test_silence_says_nothing_while_we_did_not_listen(lifecycle, worker, silent, query) -> None:
    """The broker or we were away: agents are given their time to be heard again."""
    silent(worker)
    query("UPDATE hearings SET heard_at = saga_now() - interval '30 s'")
    assert lifecycle.check_heartbeats().terminations == []
    query("UPDATE hearings SET since = since - interval '19 s'")
    assert lifecycle.check_heartbeats().terminations == []
    query("UPDATE hearings SET since = since - interval '2 s'")
    assert len(lifecycle.check_heartbeats().terminations) == 1


def test_silence_says_nothing_while_heartbeats_wait_unread(lifecycle, platform, worker, silent) -> None:
    """Section 11: only while the control queue has no backlog."""
    silent(worker)
    for _ in range(21):
        platform.app.send_task("workers.heartbeat", kwargs={}, queue="control")
    assert lifecycle.check_heartbeats().terminations == []
    with platform.app.connection_for_write() as connection:
        connection.default_channel.queue_purge("control")
    assert len(lifecycle.check_heartbeats().terminations) == 1


def test_an_agent_that_is_proven_dead_is_not_waited_for(lifecycle, platform, worker, provider, rows, query) -> None:
    """A ghost: the row is alive, the process gone. With a job: recovery; without: termination."""
    busy = rows.ready_worker(rows.provider())
    provider.create_worker(busy, SPEC, "token")
    rows.assigned_job(busy)
    assert lifecycle.run_reconciliation().terminations == []
    for one in (worker, busy):
        provider.destroy_worker(one)
    assert lifecycle.has_orphaned_workers()
    done = lifecycle.run_reconciliation()
    assert (len(done.recoveries), len(done.terminations)) == (1, 1)
    assert reason(query, done.terminations[0]) == "dead"
    assert platform.engine.orchestrator.drive(done.terminations[0]).outcome is SagaState.COMPLETED


def test_an_agent_that_turns_out_to_live_is_left_alone(lifecycle, platform, worker, provider, query) -> None:
    provider.destroy_worker(worker)
    (saga_id,) = lifecycle.run_reconciliation().terminations
    provider.create_worker(worker, SPEC, "token")
    assert platform.engine.orchestrator.drive(saga_id).outcome is SagaState.CANCELLED
    assert state(query, worker) == "READY"


@pytest.mark.parametrize("row", ["TERMINATED", None])
def test_a_zombie_is_destroyed(lifecycle, platform, provider, rows, query, row) -> None:
    """L13: infrastructure alive long after its worker was TERMINATED, or that nobody remembers."""
    worker_id = WorkerId.new()
    if row is not None:
        worker_id = rows.ready_worker(rows.provider())
        with rows.records() as records:
            records.workers.unregister(worker_id)
    provider.create_worker(worker_id, SPEC, "token")
    assert lifecycle.has_orphaned_workers()
    (saga_id,) = lifecycle.run_reconciliation().terminations
    assert lifecycle.run_reconciliation().terminations == []
    assert platform.engine.orchestrator.drive(saga_id).outcome is SagaState.COMPLETED
    assert provider.find_workers() == []
    assert not lifecycle.has_orphaned_workers()
    assert lifecycle.run_reconciliation().terminations == []


def test_sweeps_never_touch_a_worker_with_a_live_job(make_platform, provider, rows, query) -> None:
    """L32: garbage collection killed BUSY workers."""
    platform = make_platform(ports={WorkerProvider: provider})
    platform.worker_settings = WorkerSettings(idle=1, max_age=1)
    busy = rows.ready_worker(rows.provider())
    provider.create_worker(busy, SPEC, "token")
    rows.assigned_job(busy)
    query("UPDATE workers SET ready_at = saga_now() - interval '1 d', created_at = saga_now() - interval '1 d'")
    assert platform.lifecycle.cleanup_workers().terminations == []
    assert platform.lifecycle.run_reconciliation().terminations == []
    assert state(query, busy) == "BUSY"


@pytest.mark.parametrize(("settings", "column"), [({"idle": 60}, "ready_at"), ({"max_age": 60}, "created_at")])
def test_idle_and_old_workers_are_terminated_if_that_is_asked_for(
    make_platform, provider, rows, query, settings, column
) -> None:
    """US-4.2 criterion 2: clean-up is a saga; by default there is none."""
    platform = make_platform(ports={WorkerProvider: provider})
    worker = rows.ready_worker(rows.provider())
    provider.create_worker(worker, SPEC, "token")
    query(f"UPDATE workers SET {column} = saga_now() - interval '59 s'")
    assert platform.lifecycle.cleanup_workers().terminations == []
    query(f"UPDATE workers SET {column} = saga_now() - interval '61 s'")
    assert platform.lifecycle.cleanup_workers().terminations == [], "off by default"
    asking = make_platform(ports={WorkerProvider: provider})
    asking.worker_settings = WorkerSettings(**settings)
    (saga_id,) = asking.lifecycle.cleanup_workers().terminations
    assert asking.lifecycle.cleanup_workers().terminations == []
    assert asking.engine.orchestrator.drive(saga_id).outcome is SagaState.COMPLETED
    assert (state(query, worker), provider.find_workers()) == ("TERMINATED", [])


def test_a_worker_that_goes_and_that_no_saga_sees_to_is_ended(lifecycle, platform, worker, provider, query, rows):
    """P14: a row in a state that no poller looks for."""
    with rows.records() as records:
        records.workers.retire(worker)
    assert lifecycle.cleanup_workers().terminations == [], "its saga may be about to go on"
    query("UPDATE workers SET wake_at = saga_now() - interval '1 s'")
    (saga_id,) = lifecycle.cleanup_workers().terminations
    assert platform.engine.orchestrator.drive(saga_id).outcome is SagaState.COMPLETED
    assert (state(query, worker), provider.find_workers()) == ("TERMINATED", [])


def test_a_worker_that_is_being_made_is_its_sagas(lifecycle, platform, rows, query) -> None:
    """L32: not its sweep's, however long it takes."""
    platform.lifecycle.provision_worker(rows.provider(), SPEC)
    (saga,) = query("SELECT saga_id, context->'payload' AS payload FROM saga_instances")
    with rows.records() as records:
        records.workers.reserve(
            WorkerId(saga["payload"]["worker_id"]), query.value("SELECT provider_id FROM providers"), SPEC
        )
    query("UPDATE workers SET wake_at = saga_now() - interval '1 s'")
    assert lifecycle.cleanup_workers().terminations == []
    query("UPDATE saga_instances SET state = 'CANCELLED', wake_at = NULL, completed_at = saga_now()")
    assert len(lifecycle.cleanup_workers().terminations) == 1


def test_hosts_that_do_not_listen_are_not_asked_again_and_again(platform, rows) -> None:
    """P13: ticks do not pile up."""
    rows.provider(host="far.away")
    for _ in range(10):
        provider_host.ask_hosts(platform)
    assert 1 <= platform.backlog("provider.far.away") <= provider_host.MOST_ASKED + 1


@pytest.mark.parametrize("name", ["workers.check_heartbeats", "workers.reconcile"])
def test_a_provider_that_does_not_answer_is_left_to_the_next_tick(platform, provider, caplog, name, monkeypatch):
    """What is seen of nothing says nothing: no worker is given up by it."""

    def away() -> None:
        raise ProviderUnavailable("the engine does not answer")

    monkeypatch.setattr(provider, "find_workers", away)
    kwargs = {"host": "here"} if name == "workers.reconcile" else {}
    assert platform.app.tasks[name].apply(kwargs=kwargs).state == "SUCCESS"
    assert ("left to the next tick" in caplog.text) == bool(kwargs)
