"""A client that has the broker only says in the library's own words that the broker is away, however kombu puts it."""

import threading

import pytest

from sagas import BrokerUnavailable, SagaClient, SagaTimeout
from tests.harness.servers import BrokerServer


def test_a_broker_that_dies_while_a_client_waits_is_broker_unavailable_or_a_timeout(
    broker_server: BrokerServer,
) -> None:
    """Seen in a run of seeds: `redis.exceptions.ConnectionError`, raw, from the reply queue's connection."""
    client = SagaClient(broker_server.url, timeout=3)
    with pytest.raises(SagaTimeout):
        client.start("scenario", {})
    killer = threading.Timer(1.0, broker_server.kill)
    killer.start()
    with pytest.raises((BrokerUnavailable, SagaTimeout)):
        client.start("scenario", {})
    killer.join()
    for _ in range(3):
        with pytest.raises((BrokerUnavailable, SagaTimeout)):
            client.start("scenario", {})
    with pytest.raises((BrokerUnavailable, SagaTimeout)):
        SagaClient(broker_server.url, timeout=3).start("scenario", {})
