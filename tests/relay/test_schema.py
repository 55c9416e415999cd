"""The relay's migration is its tables, and goes up and down."""

from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from sagas.store.database import connect_engine
from sagas.store.relay_schema import saga_deliveries, saga_subscriptions
from sagas.store.schema import metadata
from sagas.store.upgrade import alembic_config, install_functions
from tests.harness.database import MakeDatabase, Query

OURS = {saga_deliveries.name, saga_subscriptions.name}


def test_migration_equals_the_tables(make_database: MakeDatabase) -> None:
    engine = connect_engine(make_database("engine"))

    def include(_: object, name: str | None, kind: str, *more: object) -> bool:
        return kind != "table" or name in OURS

    try:
        with engine.connect() as connection:
            options = {"include_object": include, "compare_type": True}
            assert compare_metadata(MigrationContext.configure(connection, opts=options), metadata) == []
    finally:
        engine.dispose()


def test_checks_of_the_database_are_those_of_the_tables(make_database: MakeDatabase) -> None:
    rows = Query(make_database("engine"))(
        "SELECT conname FROM pg_constraint WHERE contype = 'c' AND conrelid::regclass::text = ANY(%s)", list(OURS)
    )
    declared = {
        c.name for t in (saga_deliveries, saga_subscriptions) for c in t.constraints if str(c.name).find("_") > 0
    }
    assert {row["conname"] for row in rows} == {name for name in declared if not str(name).startswith("uq_")}


def test_down_and_up_again_with_rows(make_database: MakeDatabase) -> None:
    url = make_database("engine")
    query = Query(url)
    query("INSERT INTO saga_subscriptions VALUES ('one', '*', 'task', 'events', 3)")
    query("SELECT saga_event('job:1', 'JobDone')")
    engine = connect_engine(url)
    try:
        with engine.begin() as connection:
            command.downgrade(alembic_config(connection, None, True), "engine@engine_0001")
            command.upgrade(alembic_config(connection, None, True), "heads")
            install_functions(connection)
    finally:
        engine.dispose()
    assert query.value("SELECT count(*) FROM saga_events") == 1
    assert query.value("SELECT count(*) FROM saga_deliveries") == 0
