"""Publishing after a commit is a hint: whatever stops it, `start` has its answer, for the saga is there."""

from typing import Any

import pytest
from kombu.transport.redis import Channel

from sagas import SagaClient
from sagas.settings import Settings
from sagas.store.database import connect_engine
from sagas.store.definitions import register
from tests.harness.database import Query
from tests.store.lab import build


def test_a_start_returns_though_kombu_stumbles_over_a_connection_that_another_thread_has_lost(
    database_url: str, broker_url: str, query: Query, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Seen while the broker crashed: the channel has no connection any more, and kombu raises AttributeError."""

    def stumble(*_: Any, **__: Any) -> None:
        raise AttributeError("'NoneType' object has no attribute 'client'")

    register(connect_engine(database_url), [build("tiny", one={})], Settings())
    monkeypatch.setattr(Channel, "_put", stumble)
    handle = SagaClient(broker_url, database_url=database_url).start("tiny", {})
    assert query.value("SELECT state FROM saga_instances WHERE saga_id = %s", str(handle.saga_id)) == "PENDING"
