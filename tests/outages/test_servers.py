"""L19, L47, L61: PostgreSQL, the broker or both go away in the middle of a load: no attempt is spent, nothing is lost,
nothing doubled, and the logs tell of the stall.
"""

import os
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

from tests.harness.celery_fixtures import StartSystem
from tests.harness.database import Query
from tests.harness.effects import Effects
from tests.harness.servers import BrokerServer, PostgresServer, Server
from tests.outages.keeper import Keeper
from tests.outages.load import Load

if TYPE_CHECKING:
    from sagas import SagaClient

EACH = int(os.environ.get("HODEI_OUTAGE_SAGAS", "5"))
"""Sagas of each of the five kinds."""
AWAY = float(os.environ.get("HODEI_OUTAGE", "12"))
"""Seconds that a server does not answer."""
PATIENCE = 120 + 4 * AWAY

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120 + 3 * PATIENCE)]

Outage = Callable[[PostgresServer, BrokerServer], None]


def restart(*servers: Server) -> None:
    for server in servers:
        server.stop()
    time.sleep(1)
    for server in servers:
        server.start()


def away(*servers: Server) -> None:
    """They do not answer for a while, and close no connection."""
    for server in servers:
        server.pause()
    time.sleep(AWAY)
    for server in servers:
        server.resume()


def gone(*servers: Server) -> None:
    """They are not there for a while: connections are refused."""
    for server in servers:
        server.stop()
    time.sleep(AWAY)
    for server in servers:
        server.start()


OUTAGES: dict[str, Outage] = {
    "postgres_restarted": lambda postgres, _: restart(postgres),
    "postgres_away": lambda postgres, _: away(postgres),
    "postgres_gone": lambda postgres, _: gone(postgres),
    "broker_restarted": lambda _, broker: restart(broker),
    "broker_flushed": lambda _, broker: broker.flush(),
    "broker_away": lambda _, broker: away(broker),
    "broker_gone": lambda _, broker: gone(broker),
    "both_restarted": restart,
    "both_away": away,
}


ALWAYS = ["postgres_gone", "broker_away", "both_restarted"]
"""The rest when HODEI_OUTAGE says how long: `HODEI_OUTAGE=60 pytest tests/outages/test_servers.py`."""


@pytest.mark.parametrize("name", OUTAGES if "HODEI_OUTAGE" in os.environ else ALWAYS)
def test_an_outage_spends_no_attempt(
    name: str,
    start_system: StartSystem,
    saga_client: "SagaClient",
    query: Query,
    effects: Effects,
    postgres_server: PostgresServer,
    broker_server: BrokerServer,
) -> None:
    system = start_system(concurrency=4)
    with Keeper(system) as keeper:
        load = Load(saga_client, query, effects, EACH)
        load.wait_until_half()
        began = time.monotonic()
        OUTAGES[name](postgres_server, broker_server)
        back = time.monotonic()
        load.wait(PATIENCE)
        print(f"{name}: away {back - began:.1f} s, all ended {time.monotonic() - back:.1f} s later; {keeper.exits}")
    assert not load.problems(), "\n".join(load.problems())
