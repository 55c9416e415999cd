"""US-2.2 criterion 4, US-3.2 criterion 4: past its saga a job is dispatched, and a worker made, on the same ports."""

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
from kombu import Connection, Queue

from sagas import SagaFeatureFlags, SagaState, SagaType
from sagas.jobs.ports import CommandSender, WorkerProvider
from sagas.jobs.types import WorkerId
from tasks import due, reports
from tasks.direct import PROVISION
from tasks.direct_workers import DirectMaker
from tasks.lifecycle import ProvisioningFailed
from tests.platform.conftest import HOST, SPEC
from tests.platform.ports import refuse


@pytest.fixture
def platform(make_platform, sender, provider):
    """All sagas are off."""
    platform = make_platform(ports={CommandSender: sender, WorkerProvider: provider})
    provider.register = lambda worker_id, token: reports.registered(platform, str(worker_id), "instance", token)
    with platform.records() as records:
        for saga in SagaType:
            records.flags.set(saga, enabled=False, actor="test", reason="the other way")
    return platform


def make(platform, worker_id: object, patience: float = 60) -> bool:
    """What the task on the provider's host does."""
    return DirectMaker(platform.records, platform.engine.ports, timedelta(seconds=patience)).make(
        WorkerId(str(worker_id))
    )


def row(query, table: str) -> dict:
    (found,) = query(f"SELECT * FROM {table}")
    return found


def test_a_job_is_dispatched_without_a_saga(platform, sender, rows, query, events) -> None:
    worker_id, job_id = rows.ready_worker(rows.provider()), rows.job()
    assert len(platform.dispatcher.dispatch_once().executions) == 1
    job = row(query, "jobs")
    assert (job["state"], job["worker_id"], [job["assignment_id"]]) == (
        "ASSIGNED",
        str(worker_id),
        [str(one) for one in sender.sent],
    )
    assert job["owner_saga_id"] is None
    assert query.value("SELECT state FROM workers") == "BUSY"
    assert events(f"job:{job_id}") == ["JobSubmitted", "JobStatusChanged", "JobAssigned"]
    assert query("SELECT * FROM saga_instances") == query("SELECT * FROM shadow_comparisons") == []


def test_a_command_that_cannot_be_sent_leaves_the_job_waiting(platform, sender, rows, query) -> None:
    """L16: PENDING, the worker READY, and the next round sends it under another assignment."""
    rows.ready_worker(rows.provider())
    job_id, sender.then = rows.job(), refuse
    platform.dispatcher.dispatch_once()
    job = row(query, "jobs")
    assert (job["state"], job["attempts"], job["worker_id"]) == ("PENDING", 0, None)
    assert query.value("SELECT state FROM workers") == "READY"
    sender.then = lambda *_: None
    platform.dispatcher.dispatch_once()
    assert row(query, "jobs")["state"] == "ASSIGNED"
    assert len(set(sender.sent)) == 2 and job_id


def test_what_is_lost_between_the_rows_and_the_message_is_sent_with_the_next_heartbeat(
    platform, sender, rows, query, inbox
) -> None:
    """L6: killed after the commit."""
    worker_id = rows.ready_worker(rows.provider())
    rows.job()
    platform.dispatcher._publish = lambda _: None
    platform.dispatcher.dispatch_once()
    assert sender.sent == [] and row(query, "jobs")["state"] == "ASSIGNED"
    reports.heartbeat(platform, str(worker_id), "instance", [], [])
    told = [(verb, arguments["assignment_id"]) for verb, arguments in inbox(worker_id)]
    assert told == [("run_job", row(query, "jobs")["assignment_id"])]


def test_a_worker_that_is_not_free_spoils_nothing_else(platform, sender, rows, query) -> None:
    worker_id, job_id = rows.ready_worker(rows.provider()), rows.job()
    with rows.records() as records:
        records.workers.occupy(worker_id)
    platform.dispatcher.assign_and_dispatch(job_id, worker_id)
    assert (row(query, "jobs")["state"], sender.sent) == ("PENDING", [])


def test_two_processes_that_know_other_flags_dispatch_a_job_once(platform, make_platform, sender, rows, query) -> None:
    """L8: direct path and saga both enabled: one dispatch."""
    other = make_platform(ports={CommandSender: sender})
    other.orchestrator._flags.current = lambda _: SagaFeatureFlags()
    provider_id = rows.provider(capacity=9)
    for _ in range(6):
        rows.ready_worker(provider_id)
    jobs = [rows.job() for _ in range(6)]
    with ThreadPoolExecutor(4) as pool:
        done = list(pool.map(lambda one: one.dispatcher.dispatch_once(), [platform, other] * 2))
    assert sum(len(one.executions) for one in done) == len(jobs)
    for saga in query("SELECT saga_id FROM saga_instances"):
        other.engine.orchestrator.drive(saga["saga_id"])
    assert len(sender.sent) == len(set(sender.sent)) == len(jobs)
    assert {job["state"] for job in query("SELECT state FROM jobs")} == {"ASSIGNED"}


# --- workers ---------------------------------------------------------------------------------------------------------


def test_a_worker_is_made_without_a_saga(platform, provider, rows, query, events, broker_url) -> None:
    rows.provider()
    rows.job()
    assert [len(platform.dispatcher.dispatch_once().provisionings) for _ in range(3)] == [1, 0, 0], "L17"
    worker = row(query, "workers")
    assert (worker["state"], row(query, "jobs")["provisioning_saga_id"]) == ("CREATING", None)
    with Connection(broker_url) as connection, connection.channel() as channel:
        queue = Queue(f"provider.{HOST}", channel=channel)
        queue.declare()
        message = queue.get(no_ack=True)
    assert message.headers["task"] == PROVISION
    assert message.decode()[1] == {"worker_id": worker["worker_id"]}
    assert make(platform, worker["worker_id"])
    assert query.value("SELECT state FROM workers") == "READY"
    assert events(f"worker:{worker['worker_id']}")[-1] == "WorkerProvisioned"
    assert make(platform, worker["worker_id"]), "the message twice (L7)"
    assert (provider.count("create_worker"), provider.count("destroy_worker")) == (1, 0)
    assert query("SELECT * FROM saga_instances") == []
    assert len(platform.dispatcher.dispatch_once().executions) == 1


def test_one_message_delivered_twice_at_the_same_time_makes_one_worker_and_leaves_it(
    platform, provider, rows, query
) -> None:
    """L7: the second delivery has made the worker READY when the first one comes to that."""
    register = provider.register

    def overtaken(worker_id: WorkerId, token: str) -> None:
        provider.register = None
        register(worker_id, token)
        assert make(platform, worker_id)

    provider.register = overtaken
    started = platform.lifecycle.provision_worker(rows.provider(), SPEC)
    assert make(platform, started.worker_id)
    assert query.value("SELECT state FROM workers") == "READY"
    assert provider.is_alive(started.worker_id) and provider.count("destroy_worker") == 0


def test_a_worker_that_cannot_be_made_leaves_nothing_and_is_tried_again_after_a_pause(
    platform, provider, rows, query
) -> None:
    """US-2.2: provision_worker_should_eliminate_orphan_risk, as far as the direct way goes."""
    provider.fail_create = 1
    rows.provider()
    rows.job()
    platform.dispatcher.dispatch_once()
    assert make(platform, row(query, "workers")["worker_id"])
    assert (query.value("SELECT state FROM workers"), provider.find_workers()) == ("TERMINATED", [])
    assert platform.dispatcher.dispatch_once().provisionings == [], "not at once"
    query("UPDATE workers SET terminated_at = terminated_at - interval '1 min'")
    assert len(platform.dispatcher.dispatch_once().provisionings) == 1
    assert row(query, "jobs")["round"] == 1


@pytest.mark.parametrize("trouble", ["late", "dead"])
def test_an_agent_that_does_not_come_up_is_destroyed(platform, provider, rows, query, trouble) -> None:
    provider.register = None
    started = platform.lifecycle.provision_worker(rows.provider(), SPEC)
    assert not make(platform, started.worker_id)
    assert provider.count("create_worker") == 1
    if trouble == "dead":
        provider._workers.clear()
    assert make(platform, started.worker_id, patience=0 if trouble == "late" else 60)
    assert query.value("SELECT state FROM workers") == "TERMINATED"
    assert provider.find_workers() == []


def test_a_destroy_that_fails_keeps_the_row_for_the_sweep(platform, provider, rows, query) -> None:
    """L14."""
    provider.fail_create, provider.fail_destroy = 1, 1
    started = platform.lifecycle.provision_worker(rows.provider(), SPEC)
    assert make(platform, started.worker_id)
    assert query.value("SELECT state FROM workers") == "TERMINATING"
    query("UPDATE workers SET wake_at = wake_at - interval '5 min'")
    (saga_id,) = platform.lifecycle.cleanup_workers().terminations
    assert platform.engine.orchestrator.drive(saga_id).outcome is SagaState.COMPLETED
    assert query.value("SELECT state FROM workers") == "TERMINATED"


def test_who_waits_for_a_worker_is_told_how_it_ended(platform, provider, rows) -> None:
    provider_id = rows.provider()
    made = platform.lifecycle.provision_worker(provider_id, SPEC, idempotency_key="k")
    make(platform, made.worker_id)
    assert platform.lifecycle.provision_worker(provider_id, SPEC, idempotency_key="k", timeout=5) == made
    provider.fail_create = 1
    vain = platform.lifecycle.provision_worker(provider_id, SPEC, idempotency_key="v")
    make(platform, vain.worker_id)
    with pytest.raises(ProvisioningFailed, match=str(vain.worker_id)):
        platform.lifecycle.provision_worker(provider_id, SPEC, idempotency_key="v", timeout=5)


def test_what_has_begun_ends_on_its_way_whatever_becomes_of_the_flag(make_platform, platform, rows, query) -> None:
    """The saga would find the worker made, take that for a failure, and destroy it."""
    provider_id = rows.provider()
    direct = platform.lifecycle.provision_worker(provider_id, SPEC, idempotency_key="k")
    with platform.records() as records:
        records.flags.set(SagaType.PROVISIONING, enabled=True, actor="test", reason="on")
    on = make_platform()
    assert on.lifecycle.provision_worker(provider_id, SPEC, idempotency_key="k") == direct
    through = on.lifecycle.provision_worker(provider_id, SPEC, idempotency_key="other")
    assert platform.lifecycle.provision_worker(provider_id, SPEC, idempotency_key="other") == through
    assert query.value("SELECT count(*) FROM saga_instances") == 1


def test_without_its_saga_nothing_is_recovered_and_the_job_waits_for_its_worker(platform, rows, query) -> None:
    worker_id = rows.ready_worker(rows.provider())
    rows.assigned_job(worker_id)
    query("UPDATE workers SET last_seen_at = last_seen_at - interval '1 h'")
    platform.lifecycle.check_heartbeats()
    query("UPDATE hearings SET since = since - interval '1 h'")
    assert platform.lifecycle.check_heartbeats().recoveries == []
    assert row(query, "jobs")["state"] == "ASSIGNED"
    with platform.records() as records:
        records.flags.set(SagaType.RECOVERY, enabled=True, actor="test", reason="on")
    platform.orchestrator._flags._known = None
    assert len(platform.lifecycle.check_heartbeats().recoveries) == 1


def test_without_its_recovery_a_job_whose_worker_is_lost_can_be_cancelled(platform, rows, query) -> None:
    """P14: its end is a person's to decide, and needs no worker."""
    worker_id = rows.ready_worker(rows.provider())
    job_id, _ = rows.assigned_job(worker_id)
    due.cancel_job(platform, job_id, "its worker is lost")
    query("UPDATE workers SET last_seen_at = last_seen_at - interval '1 h'")
    platform.lifecycle.check_heartbeats()
    query("UPDATE hearings SET since = since - interval '1 h'")
    assert len(platform.lifecycle.check_heartbeats().terminations) == 1
    assert (row(query, "jobs")["state"], row(query, "jobs")["error"]) == ("CANCELLED", "its worker is lost")
