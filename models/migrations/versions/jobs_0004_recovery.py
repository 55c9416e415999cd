"""Where a job was that goes to a new worker, and since when heartbeats are heard."""

import sqlalchemy as sa
from alembic import op

revision = "jobs_0004"
down_revision = "jobs_0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    for column in _of_jobs():
        op.add_column("jobs", column)
    # A worker that is being recovered is looked up with each of its heartbeats.
    op.create_index("idx_jobs_lost", "jobs", ["lost_worker_id"], postgresql_where=sa.text("lost_worker_id IS NOT NULL"))
    time = sa.DateTime(timezone=True)
    op.create_table(
        "hearings",
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("since", time, nullable=False, comment="from then on there was no gap"),
        sa.Column("heard_at", time, nullable=False, comment="the last time that somebody listened"),
        sa.PrimaryKeyConstraint("name", name="pk_hearings"),
    )


def _of_jobs() -> list[sa.Column[object]]:
    return [
        sa.Column("lost_worker_id", sa.Uuid, comment="the silent worker from which a recovery saga has taken it"),
        sa.Column("lost_assignment_id", sa.Uuid, comment="its assignment there, good again if the saga is undone"),
    ]


def downgrade() -> None:
    op.drop_table("hearings")
    op.drop_index("idx_jobs_lost", "jobs")
    for column in _of_jobs():
        op.drop_column("jobs", column.name)
