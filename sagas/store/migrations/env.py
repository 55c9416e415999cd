"""Alembic's environment: an own version table, so that a user's history beside ours is left alone."""

from __future__ import annotations

from alembic import context

from sagas.store.upgrade import VERSION_TABLE

config = context.config
context.configure(
    connection=config.attributes["connection"],
    version_table=VERSION_TABLE,
    version_table_schema=config.attributes.get("schema"),
    transaction_per_migration=False,
)
context.run_migrations()
