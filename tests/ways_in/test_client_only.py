"""A client-only app: the wheel with nothing but celery and redis, in an environment of its own."""

from pathlib import Path

import pytest

from tests.ways_in.conftest import Environment, Ledger

pytestmark = [pytest.mark.slow, pytest.mark.wheel, pytest.mark.timeout(300)]

IMPORT = """
import sys
import sagas
names = {module.partition(".")[0] for module in sys.modules}
print(sorted(names & {"celery", "kombu", "redis", "sqlalchemy", "psycopg2", "click"}))
"""
START = """
from sagas import SagaClient
handle = SagaClient().start("order", {"sku": "A1", "card": "tok_1"}, idempotency_key="order-42")
result = handle.result(timeout=30)
print(result.outcome, result.outputs["reserve_stock"]["price"], handle.status().state)
"""
WITH_DATABASE = """
from sagas import ConfigurationError, SagaClient
try:
    SagaClient("redis://localhost", database_url="postgresql://localhost/shop")
except ConfigurationError as error:
    print(error)
"""


def test_importing_sagas_loads_neither_celery_nor_sqlalchemy(client_environment: Environment, tmp_path: Path) -> None:
    assert client_environment.ok("python", "-c", IMPORT, cwd=tmp_path) == "[]\n"


@pytest.mark.saga_modules("examples.order")
@pytest.mark.usefixtures("order_system")
def test_it_starts_a_saga_and_reads_its_result(
    client_environment: Environment, broker_url: str, tmp_path: Path, ledger: Ledger
) -> None:
    out = client_environment.ok("python", "-c", START, cwd=tmp_path, HODEI_BROKER_URL=broker_url)
    assert out == "COMPLETED 42 COMPLETED\n"
    assert ledger() == ["ship", "charge", "reserve"]


def test_what_needs_the_server_part_says_so(client_environment: Environment, tmp_path: Path) -> None:
    assert "hodei-sagas[server]" in client_environment.ok("python", "-c", WITH_DATABASE, cwd=tmp_path)
    listed = client_environment.run(
        "hodei", "saga", "list", cwd=tmp_path, HODEI_DATABASE_URL="postgresql://h/d", HODEI_BROKER_URL="redis://h"
    )
    (line,) = listed.stderr.splitlines()
    assert listed.returncode == 1
    assert line.startswith("hodei: ") and line.endswith(" is not installed: pip install 'hodei-sagas[server]'")
