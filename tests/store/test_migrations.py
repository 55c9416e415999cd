"""The migrations: equal to the tables, up and down with rows, twice, and in a schema of one's own (design 7)."""

import re
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from sagas import StorageUnavailable
from sagas.settings import Settings
from sagas.store import upgrade as upgrades
from sagas.store.database import connect_engine
from sagas.store.definitions import register
from sagas.store.relay_schema import saga_deliveries
from sagas.store.requests import StartRequest
from sagas.store.schema import metadata
from sagas.store.store import Store
from tests.harness.database import MakeDatabase, Query
from tests.store.lab import Lab, build

assert saga_deliveries.metadata is metadata  # the relay's tables stand in a file of their own

CHECKS = """
    SELECT conrelid::regclass::text AS of, conname, contype, pg_get_constraintdef(oid) AS def FROM pg_constraint
    WHERE connamespace = 'public'::regnamespace AND contype IN ('c', 'u', 'f', 'p') AND conrelid <> 0
        AND conrelid::regclass::text <> 'hodei_alembic_version' ORDER BY 1, 2
"""
INDEXES = "SELECT indexname, indexdef FROM pg_indexes WHERE schemaname = 'public' AND tablename LIKE 'saga%' ORDER BY 1"
COLUMNS = """
    SELECT table_name, column_name, data_type, is_nullable, column_default, is_identity
    FROM information_schema.columns
    WHERE table_schema = 'public' AND table_name <> 'hodei_alembic_version' ORDER BY 1, 2
"""
PERSISTENCE = """
    SELECT relname, relpersistence FROM pg_class WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace
        AND relname <> 'hodei_alembic_version' ORDER BY 1
"""


def test_alembic_finds_no_difference(make_database: MakeDatabase) -> None:
    """Design 7: migrations equal tables."""
    engine = sa.create_engine(make_database("engine"))
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True, "compare_server_default": True})
        differences = compare_metadata(context, metadata)
    engine.dispose()

    comments = ("remove_table_comment", "modify_comment")  # those of the migrations are for psql
    flat = [one for many in differences for one in (many if isinstance(many, list) else [many])]
    assert [one for one in flat if one[0] not in comments and "hodei_alembic_version" not in str(one)] == []


@pytest.mark.parametrize(
    "what", [COLUMNS, CHECKS, INDEXES, PERSISTENCE], ids=["columns", "checks", "indexes", "logged"]
)
def test_the_catalogue_finds_none_either(make_database: MakeDatabase, what: str) -> None:
    """Design 7: alembic compares neither checks nor UNLOGGED; the catalogue does."""
    migrated, made = make_database("engine"), make_database("empty")
    engine = sa.create_engine(made)
    metadata.create_all(engine)
    engine.dispose()

    assert Query(made)(what) == Query(migrated)(what)


def filled(url: str) -> None:
    """A saga in the middle of things, one at its end, and their events."""
    lab = Lab(url)
    run = lab.run(a={}, b={})
    run.do("a")
    run.claim("b")
    lab.run(a={}).do("a")
    lab.close()


def migrate(url: str, direction: str, revision: str, schema: str | None = None) -> None:
    engine = connect_engine(url, schema=schema)
    with engine.begin() as connection:
        getattr(command, direction)(upgrades.alembic_config(connection, schema, engine_only=True), revision)
    engine.dispose()


def test_down_and_up_on_a_database_with_rows(make_database: MakeDatabase) -> None:
    """Design 7: down leaves nothing of ours, up works again."""
    url = make_database("engine")
    filled(url)
    query = Query(url)
    query("DROP TABLE test_clock CASCADE")

    migrate(url, "downgrade", "engine@base")
    tables = [row["tablename"] for row in query("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")]
    assert tables == ["hodei_alembic_version"]
    assert query("SELECT proname FROM pg_proc WHERE pronamespace = 'public'::regnamespace") == []

    upgrades.upgrade(url, engine_only=True)
    assert query.value("SELECT count(*) FROM saga_instances") == 0
    assert query.value("SELECT count(*) FROM engine_epoch") == 1


@pytest.mark.parametrize("name", upgrades.FORMER)
def test_functions_of_earlier_versions_go(make_database: MakeDatabase, name: str) -> None:
    """Their parameters are rows of our tables, which could not be dropped else."""
    url = make_database("engine")
    Query(url)(f"CREATE FUNCTION {name}(s saga_instances) RETURNS boolean LANGUAGE sql AS 'SELECT true'")
    upgrades.upgrade(url, engine_only=True)
    assert Query(url)("SELECT FROM pg_proc WHERE proname = %s", name) == []


def test_twice_is_harmless_and_keeps_the_rows(make_database: MakeDatabase) -> None:
    """`hodei db upgrade` on a running system."""
    url = make_database("engine")
    filled(url)
    query = Query(url)
    before = query("SELECT * FROM saga_steps ORDER BY step_id")

    upgrades.upgrade(url, engine_only=True)
    upgrades.upgrade(url, engine_only=True)

    assert query("SELECT * FROM saga_steps ORDER BY step_id") == before


def test_the_application_s_branch_stands_beside_the_engine_s(make_database: MakeDatabase) -> None:
    """Design 7: branches `engine` and `jobs`; --engine-only leaves the second alone."""
    both, engine_only = Query(make_database("full")), Query(make_database("engine"))

    assert len(both("SELECT * FROM hodei_alembic_version")) == 2
    assert len(engine_only("SELECT * FROM hodei_alembic_version")) == 1
    assert engine_only.value("SELECT to_regclass('jobs')") is None


@pytest.mark.parametrize("schema", ["hodei", "My Schema"])
def test_in_a_schema_of_its_own(make_database: MakeDatabase, schema: str) -> None:
    """HODEI_DB_SCHEMA: nothing of ours in the user's schema, and the engine works."""
    url = make_database("empty")
    query = Query(url)
    query("CREATE TABLE saga_instances (mine integer)")
    upgrades.upgrade(url, schema=schema, engine_only=True)

    engine = connect_engine(url, schema=schema)
    store = Store(engine)
    register(engine, [build("order", a={})], Settings())
    store.start(StartRequest("order", {}))
    found = store.reconcile(10)
    engine.dispose()

    assert found is not None
    assert (found.looked_at, len(found.found)) == (1, 1)
    tables = query("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
    assert [row["tablename"] for row in tables] == ["saga_instances"]
    assert query("SELECT * FROM public.saga_instances") == []


def test_a_caller_s_search_path_does_not_lead_the_functions_astray(make_database: MakeDatabase) -> None:
    """Design 7: SQL functions with a fixed search_path."""
    url = make_database("empty")
    query = Query(url)
    upgrades.upgrade(url, schema="hodei", engine_only=True)
    engine = connect_engine(url, schema="hodei")
    register(engine, [build("order", a={})], Settings())
    engine.dispose()
    query("CREATE SCHEMA evil")
    query("CREATE TABLE evil.saga_definitions (LIKE hodei.saga_definitions)")
    connection = query.connect()
    with connection.cursor() as cursor:
        cursor.execute("SET search_path = evil")
        cursor.execute("SELECT hodei.start_saga('order')")
        assert cursor.fetchone() is not None
    connection.close()


def test_every_function_that_is_called_has_its_time_outs(make_database: MakeDatabase) -> None:
    """R21: lock_timeout and search_path on each entry point, so that no pooler is an obstacle."""
    query = Query(make_database("engine"))
    called = set(re.findall(r"SELECT (\w+)\(", Path(str(files("sagas.store").joinpath("store.py"))).read_text()))
    called = {name for name in called if name.startswith(("saga_", "start_"))}
    assert {"saga_claim", "saga_done", "saga_commit", "saga_reconcile"} <= called

    settings: dict[str, Any] = {
        row["proname"]: row["proconfig"] or []
        for row in query("SELECT proname, proconfig FROM pg_proc WHERE pronamespace = 'public'::regnamespace")
    }
    for name in sorted(called | {"start_saga"}):
        assert any(one == "lock_timeout=5s" for one in settings[name]), name
        assert any(one.startswith("search_path=") for one in settings[name]), name


def test_a_database_without_tables_is_told_so(make_database: MakeDatabase) -> None:
    """P12: one clear line that says what to do."""
    engine = connect_engine(make_database("empty"))
    with pytest.raises(StorageUnavailable, match="hodei db upgrade") as caught:
        Store(engine).start(StartRequest("order", {}))
    with pytest.raises(StorageUnavailable, match="hodei db upgrade"):
        register(engine, [build("order", a={})], Settings())
    engine.dispose()

    assert "\n" not in str(caught.value)


CLOCK = re.compile(r"\b(now|clock_timestamp|statement_timestamp|transaction_timestamp|timeofday)\s*\(|"
                   r"\b(current_timestamp|current_date|current_time|localtimestamp)\b", re.IGNORECASE)  # fmt: skip


def test_time_comes_from_one_function() -> None:
    """Design 7: `saga_now()`, which a test can move; nothing else reads a clock (first rows of a migration apart)."""
    root = Path(str(files("sagas.store")))
    guilty = []
    for file in sorted([*root.rglob("*.sql"), *root.rglob("*.py")]):
        for number, line in enumerate(file.read_text().splitlines(), 1):
            code = line.split("--")[0]
            first_row = "migrations" in file.parts and code.lstrip().startswith("INSERT INTO engine_")
            if CLOCK.search(code) and file.name != "01_saga_now.sql" and not first_row:
                guilty.append(f"{file.relative_to(root)}:{number}: {line.strip()}")

    assert guilty == []
    assert CLOCK.search((root / "sql" / "01_saga_now.sql").read_text())
