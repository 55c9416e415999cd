"""US-2.3, US-3.2: the saga runs in the shadow of what goes past it, has no effect, and is compared with it."""

from collections.abc import Callable
from typing import Any

import pytest

from sagas import PermanentError, SagaType
from sagas.jobs.ports import CommandSender, JobBoard, WorkerProvider
from tasks import shadow
from tasks.shadow_ports import ShadowBoard, ShadowSender
from tests.platform.conftest import SPEC
from tests.platform.ports import refuse
from tests.platform.test_direct import make

MakeShadowed = Callable[..., Any]


@pytest.fixture
def make_shadowed(make_platform, sender, provider, query) -> MakeShadowed:
    """A platform whose sagas are off and in the shadow; `shadow` replaces ports of the shadow."""
    from tasks import reports

    def make(shadow: dict[type, Any] | None = None, **flags: Any) -> Any:
        platform = make_platform(ports={CommandSender: sender, WorkerProvider: provider}, shadow=shadow)
        provider.register = lambda worker_id, token: reports.registered(platform, str(worker_id), "instance", token)
        wanted = {"enabled": False, "shadow": True, "actor": "test", "reason": "shadow", **flags}
        with platform.records() as records:
            for saga in (SagaType.PROVISIONING, SagaType.EXECUTION):
                records.flags.set(saga, **wanted)
        return platform

    return make


def finish(platform: Any, query: Any) -> dict[str, Any]:
    """Drive the shadow to its end and compare: the comparison."""
    (one,) = query("SELECT * FROM shadow_comparisons")
    if one["saga_id"]:
        platform.engine.orchestrator.drive(one["saga_id"])
    shadow.compare(platform)
    (one,) = query("SELECT * FROM shadow_comparisons")
    assert one["compared_at"] is not None
    return dict(one)


def rows_of(query: Any) -> list[list[dict[str, Any]]]:
    """All that a shadow must leave alone."""
    tables = (("jobs", "job_id"), ("workers", "worker_id"), ("job_results", "assignment_id"))
    found = [query(f"SELECT * FROM {table} ORDER BY {key}") for table, key in tables]
    mine = "SELECT * FROM saga_events WHERE stream LIKE 'job:%' OR stream LIKE 'worker:%' ORDER BY event_id"
    return [*found, query(mine)]


def test_an_execution_in_the_shadow_changes_nothing_and_agrees(make_shadowed, sender, rows, query) -> None:
    """shadow_mode_should_not_use_saga_result, of the execution."""
    platform = make_shadowed()
    rows.ready_worker(rows.provider())
    job_id = rows.job()
    assert len(platform.dispatcher.dispatch_once().executions) == 1
    before, sent = rows_of(query), list(sender.sent)
    one = finish(platform, query)
    assert (rows_of(query), sender.sent) == (before, sent), "the shadow has no effect"
    assert (one["key"], one["saga_type"], one["differences"]) == (str(job_id), "execution", {})
    assert (one["direct_outcome"], one["saga_outcome"]) == ("COMPLETED", "COMPLETED")
    calls = [effect["call"] for effect in one["saga_effects"]]
    assert calls == ["assign", "send_run_job", "announce_assigned"]
    assert one["saga_effects"] == one["direct_effects"]
    assert query.value("SELECT shadow FROM saga_instances") is True


def test_a_provisioning_in_the_shadow_changes_nothing_and_agrees(make_shadowed, provider, rows, query) -> None:
    """shadow_mode_should_not_use_saga_result, of the provisioning; L9: one create call."""
    platform = make_shadowed()
    rows.provider()
    started = platform.lifecycle.provision_worker(rows.provider(), SPEC)
    assert make(platform, started.worker_id)
    before = rows_of(query)
    one = finish(platform, query)
    assert rows_of(query) == before, "the shadow has no effect"
    assert (provider.count("create_worker"), provider.count("destroy_worker")) == (1, 0)
    assert (one["run_id"], one["differences"]) == (str(started.worker_id), {})
    assert [effect["call"] for effect in one["saga_effects"]] == ["reserve", "create_worker", "created", "ready"]
    assert SPEC.to_json() in one["saga_effects"][1]["with"]
    token = provider.tokens[0]
    assert token not in str(query("SELECT * FROM shadow_comparisons")), "L67"


def test_through_its_saga_nothing_has_a_shadow(make_shadowed, sender, rows, query) -> None:
    """saga_enabled_should_use_saga_result."""
    platform = make_shadowed(enabled=True)
    rows.ready_worker(rows.provider())
    rows.job()
    (saga_id,) = platform.dispatcher.dispatch_once().executions
    platform.engine.orchestrator.drive(saga_id)
    assert query.value("SELECT state FROM jobs") == "ASSIGNED" and len(sender.sent) == 1
    assert query("SELECT * FROM shadow_comparisons") == []


class Broken(ShadowSender):
    def send_run_job(self, *_: Any) -> None:
        raise PermanentError("planned")


def test_an_error_of_the_saga_is_stored_counted_and_logged_and_the_direct_result_stands(
    make_shadowed, sender, rows, query, records, caplog
) -> None:
    """shadow_mode_should_log_discrepancies: saga_error says what the saga met."""
    platform = make_shadowed(shadow={CommandSender: Broken()})
    rows.ready_worker(rows.provider())
    job_id = rows.job()
    platform.dispatcher.dispatch_once()
    one = finish(platform, query)
    assert (query.value("SELECT state FROM jobs"), len(sender.sent)) == ("ASSIGNED", 1)
    assert one["differences"] == {
        "outcome": {"direct": "COMPLETED", "saga": "COMPENSATED"},
        "saga_error": "PermanentError: planned",
    }
    assert f"{job_id} (saga {one['saga_id']}) differs" in caplog.text and "planned" in caplog.text
    with records() as r:
        (total,) = r.shadows.totals()
        (listed,) = r.shadows.list()
    assert (total.compared, total.different, total.kinds) == (1, 1, {"outcome": 1, "saga_error": 1})
    assert str(listed.run_id) == one["run_id"]


def test_a_shadow_is_not_counted_among_what_was_done(make_shadowed, rows, records, query) -> None:
    """The demo's table has what had an effect."""
    platform = make_shadowed()
    rows.ready_worker(rows.provider())
    rows.job()
    platform.dispatcher.dispatch_once()
    finish(platform, query)
    platform.engine.orchestrator.start_saga(SagaType.EXECUTION, {})
    with records() as r:
        assert [(line.saga_type, line.state, line.sagas) for line in r.sagas.totals()] == [("execution", "PENDING", 1)]


def test_an_error_of_the_direct_way_is_a_difference_too(make_shadowed, sender, rows, query) -> None:
    platform = make_shadowed()
    sender.then = refuse
    rows.ready_worker(rows.provider())
    rows.job()
    platform.dispatcher.dispatch_once()
    one = finish(platform, query)
    assert one["differences"] == {
        "outcome": {"direct": "FAILED", "saga": "COMPLETED"},
        "direct_error": "no broker",
    }


def test_the_same_end_by_other_means_is_a_difference(make_shadowed, rows, query) -> None:
    """A saga that would have made another worker than the one that was made."""
    platform = make_shadowed()
    started = platform.lifecycle.provision_worker(rows.provider(), SPEC)
    make(platform, started.worker_id)
    query("UPDATE shadow_comparisons SET direct_effects = jsonb_set(direct_effects, '{1,with,0}', '\"another\"')")
    one = finish(platform, query)
    effects = one["differences"]["effects"]
    assert ([e["with"][0] for e in effects["direct"]], [e["call"] for e in effects["saga"]]) == (
        ["another"],
        ["create_worker"],
    )


def test_a_shadow_that_cannot_be_started_is_a_difference_and_the_job_is_dispatched(
    make_shadowed, sender, rows, query
) -> None:
    platform = make_shadowed()
    query("DELETE FROM saga_definitions WHERE name = 'execution'")
    rows.ready_worker(rows.provider())
    rows.job()
    platform.dispatcher.dispatch_once()
    assert (query.value("SELECT state FROM jobs"), len(sender.sent)) == ("ASSIGNED", 1)
    one = finish(platform, query)
    assert "it was not started" in one["differences"]["saga_error"]


@pytest.mark.parametrize("side", ["direct", "saga"])
def test_what_does_not_end_is_compared_all_the_same(make_shadowed, rows, query, side) -> None:
    """P14: a process that died on the direct way says nothing any more."""
    platform = make_shadowed()
    platform.lifecycle.provision_worker(rows.provider(), SPEC)
    (one,) = query("SELECT * FROM shadow_comparisons")
    if side == "direct":
        platform.engine.orchestrator.drive(one["saga_id"])
    else:
        make(platform, one["run_id"])
    shadow.compare(platform)
    assert query.value("SELECT compared_at FROM shadow_comparisons") is None
    query("UPDATE shadow_comparisons SET begun_at = begun_at - interval '1 h'")
    assert shadow.compare(platform) == 1
    differences = query.value("SELECT differences FROM shadow_comparisons")
    assert "not ended after 900 s" in differences["direct_error" if side == "direct" else "saga_error"]


def test_a_shadow_that_hangs_does_not_hold_up_the_sweep(make_shadowed, rows, query) -> None:
    """L13: a worker whose direct provisioning was lost is ended, whatever the shadow does."""
    platform = make_shadowed()
    platform.lifecycle.provision_worker(rows.provider(), SPEC)
    query("UPDATE workers SET wake_at = wake_at - interval '5 min'")
    assert len(platform.lifecycle.cleanup_workers().terminations) == 1


def test_the_shadow_of_a_job_reads_the_jobs_own_command(make_shadowed, records, rows) -> None:
    board: JobBoard = ShadowBoard(records)
    job_id = rows.job()
    assert board.command(job_id).program == "echo"
    with records() as r, pytest.raises(PermanentError, match="not on record"):
        board.check_pending(r.session, type(job_id).new())
