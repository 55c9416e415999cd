"""A saga in a given state is found by both, also by a plan that knows of none in that state (decision 0022)."""

from __future__ import annotations

from alembic import op

revision = "engine_0010"
down_revision = "engine_0009"
branch_labels = None
depends_on = None

UP = """
DROP INDEX idx_saga_instances_state;
CREATE INDEX idx_saga_instances_state ON saga_instances (state, saga_id);
"""

DOWN = """
DROP INDEX idx_saga_instances_state;
CREATE INDEX idx_saga_instances_state ON saga_instances (state);
"""


def upgrade() -> None:
    op.execute(UP)


def downgrade() -> None:
    op.execute(DOWN)
