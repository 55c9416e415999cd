"""P14: every job that has not ended has a due time, and is looked at when it comes; ticks do not pile up."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from models import Answer
from sagas.jobs.types import AssignmentId
from tasks import due, reports
from tests.platform.conftest import ECHO
from tests.platform.test_dispatcher import later
from tests.platform.test_reports import beat, told


@pytest.fixture
def at_work(rows, platform):
    """(worker, job, assignment) of a job whose dispatch is complete."""
    worker_id = rows.ready_worker(rows.provider())
    return worker_id, *rows.assigned_job(worker_id)


def test_an_assigned_job_is_sent_again_when_it_is_due_and_not_before(platform, at_work, inbox, query) -> None:
    """L16, P10: its RUN_JOB may be lost with the broker, and its worker's heartbeats too."""
    worker_id, job_id, assignment_id = at_work
    assert (due.reconcile(platform), inbox(worker_id)) == (0, [])
    later(query, 61)
    assert due.reconcile(platform) == 1
    ((verb, sent),) = inbox(worker_id)
    assert (verb, sent["job_id"], sent["assignment_id"]) == ("run_job", str(job_id), str(assignment_id))
    assert (due.reconcile(platform), inbox(worker_id)) == (0, []), "due again later"
    later(query, 130)
    assert (due.reconcile(platform), len(inbox(worker_id))) == (1, 1)


def test_two_sweeps_at_the_same_time_send_it_once(platform, at_work, inbox, query) -> None:
    """L24, L59: two beats."""
    later(query, 61)
    with ThreadPoolExecutor(4) as pool:
        seen = list(pool.map(lambda _: due.reconcile(platform), range(4)))
    assert sum(seen) == 1 and len(inbox(at_work[0])) == 1


def test_what_its_own_saga_is_about_to_send_is_left_to_it(platform, rows, inbox, query) -> None:
    worker_id, job_id = rows.ready_worker(rows.provider()), rows.job()
    platform.dispatcher.assign_and_dispatch(job_id, worker_id)
    with rows.records() as records:
        records.jobs.assign(job_id, worker_id, AssignmentId.new())
    later(query, 61)
    assert (due.reconcile(platform), inbox(worker_id)) == (1, [])


def test_a_running_job_is_only_looked_at_and_an_ended_one_is_not(platform, at_work, inbox, query) -> None:
    worker_id, job_id, assignment_id = at_work
    reports.accepted(platform, str(worker_id), str(assignment_id))
    later(query, 61)
    assert (due.reconcile(platform), inbox(worker_id)) == (1, [])
    assert query.value("SELECT wake_at > saga_now() FROM jobs")
    reports.result(platform, told(worker_id, job_id, assignment_id))
    with platform.records() as records:
        records.jobs.submit(ECHO)  # one that waits is the dispatcher's
    later(query, 600)
    assert due.reconcile(platform) == 0


def test_a_heartbeat_that_lists_an_assignment_is_its_acceptance(platform, at_work, query, events) -> None:
    """P10: the acceptance itself was lost; what only a message carries is repeated by its sender."""
    worker_id, job_id, assignment_id = at_work
    for _ in range(2):
        beat(platform, worker_id, [assignment_id])
        assert query.value("SELECT state FROM jobs") == "RUNNING"
    assert reports.accepted(platform, str(worker_id), str(assignment_id)) is Answer.KNOWN
    assert events(f"job:{job_id}").count("JobAccepted") == 1


def test_ticks_expire_and_are_not_retried_while_postgresql_is_away(make_platform, database_url, caplog) -> None:
    """P13 for our own ticks: each does what the last one would have done, so none is kept."""
    platform = make_platform()
    schedule = platform.app.conf.beat_schedule
    ours = {entry["task"] for entry in schedule.values() if not entry["task"].startswith("sagas.")}
    assert ours >= {"jobs.dispatch", "jobs.reconcile"}
    assert all(entry["options"]["expires"] for entry in schedule.values())
    platform.engine.sql.dispose()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(platform.engine.sql.pool, "_creator", _nobody)
        for name in ours:
            assert platform.app.tasks[name].apply().state == "SUCCESS", name
            assert f"{name}: left to the next tick" in caplog.text


def _nobody() -> None:
    from psycopg2 import OperationalError

    raise OperationalError("connection refused")
