"""A step by a message of its own changes nothing of its saga that an index holds (decision 0021)."""

from __future__ import annotations

from alembic import op

revision = "engine_0009"
down_revision = "engine_0008"
branch_labels = None
depends_on = None

UP = """
ALTER TABLE saga_instances ADD COLUMN claimed boolean NOT NULL DEFAULT false;
COMMENT ON COLUMN saga_instances.claimed IS 'There may be a claim: set by each, cleared by whoever finds none';
UPDATE saga_instances SET claimed = true WHERE live_claims > 0;
DROP INDEX idx_saga_instances_live;
CREATE INDEX idx_saga_instances_live ON saga_instances (saga_id) WHERE claimed AND wake_at IS NOT NULL;
COMMENT ON INDEX idx_saga_instances_live IS 'Where the claims of a dead process, or of a silent node, are looked for';
"""

DOWN = """
DROP INDEX idx_saga_instances_live;
ALTER TABLE saga_instances DROP COLUMN claimed;
CREATE INDEX idx_saga_instances_live ON saga_instances (saga_id) WHERE live_claims > 0;
COMMENT ON INDEX idx_saga_instances_live IS 'Where the claims of a dead process, or of a silent node, are looked for';
"""


def upgrade() -> None:
    op.execute(UP)


def downgrade() -> None:
    op.execute(DOWN)
