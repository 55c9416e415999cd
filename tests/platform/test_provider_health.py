"""A provider's host says whether workers can be made there; nobody is sent where none can (issue 4, item 5)."""

import json
import subprocess
from pathlib import Path

import pytest

from providers.process import ProcessProvider
from providers.recording import RecordingProvider
from sagas import SagaType
from sagas.jobs.ports import ProviderError, WorkerProvider
from tasks.provider_health import say, trouble_of
from tests.harness.wait import wait_for
from tests.platform.test_commands import HODEI
from tests.platform.test_dispatcher import later, sagas
from tests.platform.world import LONG


def chosen(platform, query) -> list[str]:
    """The providers at which the waiting jobs have workers made, after one round."""
    platform.dispatcher.dispatch_once()
    return [saga["context"]["payload"]["provider_id"] for saga in sagas(query, SagaType.PROVISIONING)]


def note(rows, provider_id, trouble: str | None, holds: float = 20) -> None:
    with rows.records() as records:
        records.health.note(provider_id, trouble, holds)


def test_a_new_provider_is_taken_at_its_word(platform, rows, query) -> None:
    provider_id = rows.provider()
    rows.job()
    assert chosen(platform, query) == [str(provider_id)]


def test_a_provider_in_trouble_makes_no_workers_until_it_is_well_again(platform, rows, query) -> None:
    """The larger one is in trouble: the other one is chosen; alone, nobody is, and the job waits, not blocked."""
    large, small = rows.provider(capacity=9, host="large"), rows.provider(capacity=2, host="small")
    note(rows, large, "no worker can be made: the engine is away")
    rows.job()
    assert chosen(platform, query) == [str(small)]
    note(rows, small, "full disk")
    rows.job()
    assert chosen(platform, query) == [str(small)]
    assert query.value("SELECT count(*) FROM jobs WHERE blocked IS NOT NULL") == 0
    note(rows, large, None)
    assert chosen(platform, query) == [str(small), str(large)]


def test_a_host_that_says_nothing_any_more_is_in_trouble(platform, rows, query) -> None:
    """Its word holds for some seconds."""
    provider_id = rows.provider()
    note(rows, provider_id, None, holds=20)
    rows.job()
    later(query, 21)
    assert chosen(platform, query) == []
    with rows.records() as records:
        assert records.health.troubles() == {provider_id: "its host says nothing any more"}
    note(rows, provider_id, None, holds=20)
    assert chosen(platform, query) == [str(provider_id)]


def test_a_change_is_an_event_and_a_repetition_is_none(rows, events) -> None:
    """P8."""
    provider_id = rows.provider()
    for trouble in (None, None, "away", "away", None, None):
        note(rows, provider_id, trouble)
    assert events(f"provider:{provider_id}") == ["ProviderHealthChanged"] * 2


def test_what_the_provider_says_is_what_its_host_says(make_platform, rows, query) -> None:
    class Broken(RecordingProvider):
        def check(self) -> None:
            raise ProviderError("no worker can be made: no disk\nand more")

    platform, provider_id = make_platform(ports={WorkerProvider: Broken()}), rows.provider()
    assert say(platform, platform.engine.sql, [provider_id]) == "no worker can be made: no disk"
    (row,) = query("SELECT * FROM providers")
    assert row["trouble"] == "no worker can be made: no disk"
    assert row["last_seen_at"] is not None


def test_the_process_provider_needs_its_directory(platform, tmp_path: Path, broker_url: str) -> None:
    assert trouble_of(platform) is None
    (tmp_path / "file").touch()
    with pytest.raises(ProviderError, match="no worker can be made in"):
        ProcessProvider(tmp_path / "file", broker_url).check()


@pytest.mark.slow
def test_a_running_host_is_seen_and_a_killed_one_is_missed(
    platform, start_worker, query, processes, celery_environment
) -> None:
    worker = start_worker("tasks", env={"HODEI_WORKER_DEAD": "2"})
    healthy = "SELECT count(*) FROM providers WHERE healthy_until > saga_now() AND trouble IS NULL"
    wait_for(lambda: query.value(healthy) == 1, LONG)
    seen = query.value("SELECT last_seen_at FROM providers")
    wait_for(lambda: query.value("SELECT last_seen_at FROM providers") > seen, LONG)
    worker.kill_all()
    wait_for(lambda: query.value(healthy) == 0, LONG)
    command = [*HODEI, "provider", "list", "--json"]
    listed = subprocess.run(
        command, env=processes.environment(celery_environment), check=True, capture_output=True, timeout=60
    )
    (told,) = json.loads(listed.stdout)
    assert told["trouble"] == "its host says nothing any more"
