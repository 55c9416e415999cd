"""What jobs ask of their workers and providers have; repeated runs; cancellation; due times."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "jobs_0003"
down_revision = "jobs_0002"
branch_labels = None
depends_on = None

COMMAND = "argv, {}env, cwd, stdin, timeout (seconds)"


def upgrade() -> None:
    for column in _of_jobs():
        op.add_column("jobs", column)
    for column in _of_providers():
        op.add_column("providers", column)
    op.alter_column("jobs", "command", comment=COMMAND.format("script, "))
    # What the sweep of due jobs reads; its cost does not grow with history.
    op.create_index("idx_jobs_wake_at", "jobs", ["wake_at"], postgresql_where=sa.text("wake_at IS NOT NULL"))


def _of_jobs() -> list[sa.Column[object]]:
    time = sa.DateTime(timezone=True)
    return [
        sa.Column(
            "requirements",
            JSONB,
            nullable=False,
            server_default=sa.text("'{}'"),
            comment="labels and resources (cpu in cores, memory in bytes) that its worker must have",
        ),
        sa.Column(
            "retry_failed",
            sa.Boolean,
            nullable=False,
            server_default=sa.text("false"),
            comment="whether a run that failed or took too long is repeated, while attempts are left",
        ),
        sa.Column("not_before", time, comment="until then the dispatcher leaves it alone"),
        sa.Column("blocked", sa.Text, comment="why no provider can make the worker that it asks for"),
        sa.Column("cancel_requested_at", time, comment="it is not run again; its worker is told to stop it"),
        sa.Column("cancel_reason", sa.Text),
    ]


def _of_providers() -> list[sa.Column[object]]:
    return [
        sa.Column(
            "labels",
            JSONB,
            nullable=False,
            server_default=sa.text("'{}'"),
            comment="what its workers have besides their own labels",
        ),
        sa.Column("cpu", sa.Float, comment="cores of all its workers together; null is no limit"),
        sa.Column("memory", sa.BigInteger, comment="bytes of all its workers together; null is no limit"),
    ]


def downgrade() -> None:
    op.drop_index("idx_jobs_wake_at", "jobs")
    op.alter_column("jobs", "command", comment=COMMAND.format(""))
    for table, columns in (("providers", _of_providers()), ("jobs", _of_jobs())):
        for column in columns:
            op.drop_column(table, column.name)
