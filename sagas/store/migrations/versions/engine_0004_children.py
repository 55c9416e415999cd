"""Steps that are sagas of their own; and a column that nothing read is gone."""

from __future__ import annotations

from alembic import op

revision = "engine_0004"
down_revision = "engine_0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("ALTER TABLE saga_steps ADD COLUMN child text, ADD COLUMN child_saga_id uuid")
    op.execute("COMMENT ON COLUMN saga_steps.child IS 'The saga that this step is, if it is one'")
    op.execute(
        "COMMENT ON COLUMN saga_steps.child_saga_id IS"
        " 'The child of the latest round; no foreign key: its own row names the parent'"
    )
    op.execute("ALTER TABLE saga_instances DROP COLUMN open_in_stage")


def downgrade() -> None:
    op.execute("ALTER TABLE saga_instances ADD COLUMN open_in_stage integer NOT NULL DEFAULT 1")
    op.execute("ALTER TABLE saga_steps DROP COLUMN child, DROP COLUMN child_saga_id")
