"""The platform's migrations are its models."""

from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import CheckConstraint

from models import Base, Job, Provider, Worker
from sagas.jobs.types import JobState, WorkerState
from sagas.store.database import connect_engine
from sagas.store.upgrade import alembic_config, upgrade


def test_migrations_equal_the_models(database_url: str) -> None:
    engine = connect_engine(database_url)
    ours = set(Base.metadata.tables)

    def include(name: str | None, kind: str, parents: object) -> bool:
        return kind != "table" or name in ours

    try:
        with engine.connect() as connection:
            options = {"include_name": include, "compare_type": True, "compare_server_default": False}
            assert compare_metadata(MigrationContext.configure(connection, opts=options), Base.metadata) == []
    finally:
        engine.dispose()


def test_checks_and_comments_of_the_database_are_those_of_the_models(query) -> None:
    checks = query(
        "SELECT conname FROM pg_constraint WHERE contype = 'c' AND conrelid::regclass::text = ANY(%s)",
        list(Base.metadata.tables),
    )
    declared = {
        str(check.name)
        for table in Base.metadata.tables.values()
        for check in table.constraints
        if isinstance(check, CheckConstraint)
    }
    assert {row["conname"] for row in checks} == declared
    comments = {
        (table.name, column.name): column.comment for table in Base.metadata.tables.values() for column in table.columns
    }
    rows = query(
        "SELECT c.relname, a.attname, col_description(a.attrelid, a.attnum) AS comment FROM pg_attribute a "
        "JOIN pg_class c ON c.oid = a.attrelid WHERE c.relname = ANY(%s) AND c.relkind = 'r' AND a.attnum > 0",
        list(Base.metadata.tables),
    )
    assert {(row["relname"], row["attname"]): row["comment"] for row in rows} == comments


def test_every_state_of_the_machines_is_allowed_and_no_other() -> None:
    checks: dict[str, list[str]] = {
        table.name: [
            str(c.sqltext)
            for c in table.constraints
            if isinstance(c, CheckConstraint) and str(c.name).endswith("_state")
        ]
        for table in (Base.metadata.tables[Job.__tablename__], Base.metadata.tables[Worker.__tablename__])
    }
    for table, states in (("jobs", JobState), ("workers", WorkerState)):
        (check,) = checks[table]
        assert [word for word in check.split("'") if word.isupper()] == list(states)


def test_foreign_keys_restrict(query) -> None:
    """L20: deleting bookkeeping never deletes business rows."""
    rules = query("SELECT delete_rule FROM information_schema.referential_constraints")
    assert {rule["delete_rule"] for rule in rules} == {"RESTRICT"}
    assert Provider.__tablename__ == "providers"


def test_the_branch_goes_down_and_up_beside_the_engine_with_rows(database_url: str, query, rows) -> None:
    rows.assigned_job(rows.ready_worker(rows.provider()))
    engine = connect_engine(database_url)
    try:
        with engine.begin() as connection:
            command.downgrade(alembic_config(connection, None, engine_only=False), "jobs@base")
        assert query.value("SELECT to_regclass('jobs')") is None
        assert query.value("SELECT count(*) FROM saga_events") > 0, "the engine's own stay"
    finally:
        engine.dispose()
    upgrade(database_url)
    assert query.value("SELECT count(*) FROM jobs") == 0
