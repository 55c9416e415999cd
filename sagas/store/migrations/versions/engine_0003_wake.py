"""The index of what is due, by `wake_at` alone.

With `state IN (...)` as its condition it served any `saga_id = ... AND state = ...`, and the planner took it for that
wherever its statistics came from a moment with few active sagas: each statement then read every active saga.
"""

from __future__ import annotations

from alembic import op

revision = "engine_0003"
down_revision = "engine_0002"
branch_labels = None
depends_on = None

COMMENT = "COMMENT ON INDEX idx_saga_instances_wake IS 'What reconcile reads: active sagas by due time, never history'"


def upgrade() -> None:
    op.execute("DROP INDEX idx_saga_instances_wake")
    op.execute("CREATE INDEX idx_saga_instances_wake ON saga_instances (wake_at) WHERE wake_at IS NOT NULL")
    op.execute(COMMENT)


def downgrade() -> None:
    op.execute("DROP INDEX idx_saga_instances_wake")
    op.execute(
        "CREATE INDEX idx_saga_instances_wake ON saga_instances (wake_at)"
        " WHERE state IN ('PENDING', 'IN_PROGRESS', 'COMPENSATING')"
    )
    op.execute(COMMENT)
