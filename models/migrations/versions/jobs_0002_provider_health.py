"""What a provider's host last said about it."""

import sqlalchemy as sa
from alembic import op

revision = "jobs_0002"
down_revision = "jobs_0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    time = sa.DateTime(timezone=True)
    said, holds = "when its host last said something about it", "until then it makes workers; null: nobody has said yet"
    op.add_column("providers", sa.Column("last_seen_at", time, comment=said))
    op.add_column("providers", sa.Column("healthy_until", time, comment=holds))
    op.add_column("providers", sa.Column("trouble", sa.Text, comment="why it makes no workers, in its host's words"))


def downgrade() -> None:
    for column in ("last_seen_at", "healthy_until", "trouble"):
        op.drop_column("providers", column)
