"""Servers that come back on the same address, databases that are fresh."""

from concurrent.futures import ThreadPoolExecutor

import psycopg2
import pytest

from tests.harness.database import MakeDatabase, Query
from tests.harness.servers import BrokerServer, PostgresServer

pytestmark = pytest.mark.database("empty")


def test_two_databases_of_one_test_do_not_see_each_other(query: Query, make_database: MakeDatabase) -> None:
    query("CREATE TABLE only_here (n int)")
    other = Query(make_database("empty"))
    assert other("SELECT 1 AS there FROM pg_tables WHERE tablename = %s", "only_here") == []


def test_a_killed_postgresql_comes_back_with_what_was_committed(query: Query, postgres_server: PostgresServer) -> None:
    query("CREATE TABLE kept (n int)")
    query("INSERT INTO kept VALUES (%s)", 7)
    postgres_server.kill()
    with pytest.raises(psycopg2.OperationalError):
        query("SELECT 1")
    postgres_server.start()
    assert query("SELECT n FROM kept") == [{"n": 7}]


def test_a_killed_backend_takes_every_connection_with_it(query: Query, postgres_server: PostgresServer) -> None:
    victim, bystander = query.connect(), query.connect()
    postgres_server.crash_backend(victim.info.backend_pid)
    with pytest.raises(psycopg2.DatabaseError), bystander.cursor() as cursor:
        cursor.execute("SELECT 1")
    assert query.value("SELECT 1") == 1


def test_the_server_was_left_down(postgres_server: PostgresServer, broker_server: BrokerServer) -> None:
    postgres_server.kill()
    broker_server.kill()
    assert not postgres_server.answers() and not broker_server.answers()


def test_the_next_test_finds_it_running(query: Query, broker_server: BrokerServer) -> None:
    assert query.value("SELECT 1") == 1
    assert broker_server.answers()


def test_a_broker_forgets_when_it_is_killed(broker_server: BrokerServer) -> None:
    with broker_server.client() as client:
        client.set("key", "value")
        broker_server.kill()
        broker_server.start()
        assert client.get("key") is None


def test_a_paused_postgresql_is_silent_and_goes_on(query: Query, postgres_server: PostgresServer) -> None:
    connection = query.connect()
    postgres_server.pause()
    with ThreadPoolExecutor(1) as pool, connection.cursor() as cursor:
        answer = pool.submit(cursor.execute, "SELECT 1")
        with pytest.raises(TimeoutError):
            answer.result(timeout=0.3)
        postgres_server.resume()
        answer.result(timeout=10)
    connection.close()


@pytest.mark.parametrize(
    ("kind", "tables"), [("empty", set()), ("engine", {"saga_steps"}), ("full", {"saga_steps", "jobs"})]
)
def test_each_kind_of_database_has_its_tables(kind: str, tables: set[str], make_database: MakeDatabase) -> None:
    rows = Query(make_database(kind))("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
    assert {row["tablename"] for row in rows} & {"saga_steps", "jobs"} == tables
