"""One message may bring several sagas: which saga's message it is, and how many messages a long queue needs."""

from __future__ import annotations

from alembic import op

revision = "engine_0008"
down_revision = "engine_0007"
branch_labels = None
depends_on = None

UP = """
ALTER TABLE saga_instances ADD COLUMN brought_by uuid;
COMMENT ON COLUMN saga_instances.brought_by IS
    'The saga whose first message brings this one, too. A hint: no foreign key, that one may be gone';
CREATE INDEX idx_saga_instances_brought ON saga_instances (brought_by) WHERE brought_by IS NOT NULL;
ALTER TABLE saga_backlogs ADD COLUMN needed integer NOT NULL DEFAULT 0;
ALTER TABLE saga_backlogs ALTER COLUMN needed DROP DEFAULT;
COMMENT ON TABLE saga_backlogs IS
    'Queues that many sagas wait in, as last counted: sagas that wait, messages that they need, and that were there';
"""

DOWN = """
ALTER TABLE saga_backlogs DROP COLUMN needed;
COMMENT ON TABLE saga_backlogs IS
    'Queues that many sagas wait in, as last counted: sagas that wait, messages that were there for them';
ALTER TABLE saga_instances DROP COLUMN brought_by;
"""


def upgrade() -> None:
    op.execute(UP)


def downgrade() -> None:
    op.execute(DOWN)
