"""What reconcile knows of long queues, so that it does not count them at each tick nor look at each of their sagas."""

from __future__ import annotations

from alembic import op

revision = "engine_0007"
down_revision = "engine_0006"
branch_labels = None
depends_on = None

UP = """
CREATE TABLE saga_backlogs (
    queue text PRIMARY KEY,
    waiting integer NOT NULL,
    depth integer NOT NULL,
    counted_at timestamptz NOT NULL,
    CONSTRAINT saga_backlogs_some CHECK (waiting > 0)
);
COMMENT ON TABLE saga_backlogs IS
    'Queues that many sagas wait in, as last counted: sagas that wait, messages that were there for them';
"""


def upgrade() -> None:
    op.execute(UP)


def downgrade() -> None:
    op.execute("DROP TABLE saga_backlogs")
