"""L73: what cannot be stored is an error, and nothing is reported that is not on record."""

import uuid

import psycopg2
import pytest
import sqlalchemy as sa
from sqlalchemy.exc import SQLAlchemyError

from sagas import SagaClient
from sagas.errors import HodeiError, StorageUnavailable
from sagas.store.database import connect_engine
from sagas.store.requests import StartRequest
from sagas.store.store import Store
from tests.store.lab import Lab


def test_a_role_without_rights(lab: Lab) -> None:
    role = f"poor_{uuid.uuid4().hex[:8]}"
    lab.define("poor", a={})
    lab.sql(f"CREATE ROLE {role} LOGIN")
    try:
        url = sa.make_url(lab.engine.url).set(username=role)
        client = SagaClient("memory://", database_url=url.render_as_string(hide_password=False))
        with pytest.raises((HodeiError, SQLAlchemyError, psycopg2.Error), match="permission denied"):
            client.start("poor", {})
        assert lab.value("SELECT count(*) FROM saga_instances") == 0
    finally:
        lab.sql(f"DROP OWNED BY {role}")
        lab.sql(f"DROP ROLE {role}")


def test_a_pool_that_is_exhausted(lab: Lab) -> None:
    lab.define("busy", a={})
    engine = connect_engine(lab.url, pool_size=1)
    engine.pool._timeout = 0.2  # type: ignore[attr-defined]
    store = Store(engine)
    held = [engine.connect() for _ in range(6)]
    try:
        with pytest.raises(StorageUnavailable, match="QueuePool limit"):
            store.start(StartRequest("busy", {}))
        assert lab.value("SELECT count(*) FROM saga_instances") == 0
    finally:
        for connection in held:
            connection.close()
        engine.dispose()


@pytest.mark.parametrize("table", ["saga_instances", "saga_steps", "saga_events"])
def test_a_disk_that_is_full(lab: Lab, table: str) -> None:
    """PostgreSQL's own code for it (53100), from whichever table's row cannot be written: none of them is."""
    run = lab.run(a={}, b={})
    attempt = run.claim("a")
    before = run.dump()
    lab.sql(
        "CREATE FUNCTION full_disk() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
        " RAISE EXCEPTION 'could not extend file: No space left on device' USING ERRCODE = '53100'; END $$"
    )
    lab.sql(f"CREATE TRIGGER full_disk BEFORE INSERT OR UPDATE ON {table} FOR EACH ROW EXECUTE FUNCTION full_disk()")
    with pytest.raises(StorageUnavailable, match="No space left"):
        run.commit("a", attempt)
    assert run.dump() == before
    lab.sql(f"DROP TRIGGER full_disk ON {table}")
    assert run.commit("a", attempt)["verdict"] == "committed"


def test_a_kept_connection_that_is_as_stale_as_the_others(lab: Lab) -> None:
    """What is tried once more does not take it."""
    lab.define("order", a={})
    store = Store(lab.engine, keeps=True)
    store.start(StartRequest("order", {}))
    (kept,) = store._kept
    store._kept = []
    store.start(StartRequest("order", {}))
    store._kept.append(kept)  # two, as when two threads were at it
    lab.sql(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        " WHERE datname = current_database() AND pid <> pg_backend_pid()"
    )
    assert store.start(StartRequest("order", {}))["created"]
