"""Updates in place: a moving step or saga changes nothing that an index holds, so that its indexes are not written to.

PostgreSQL updates a row without its indexes (heap-only tuples) if no indexed column, nor one of a partial index's
condition, changes and if the page has room: hence no index over `lease_until`, and pages that are not filled.
"""

from __future__ import annotations

from alembic import op

revision = "engine_0006"
down_revision = "engine_0005"
branch_labels = None
depends_on = None

UP = """
DROP INDEX uq_saga_steps_undo, idx_saga_steps_claims;
ALTER TABLE saga_instances DROP CONSTRAINT saga_instances_wake,
    ADD CONSTRAINT saga_instances_wake CHECK (num_nonnulls(wake_at, completed_at) = 1 AND live_claims BETWEEN 0 AND 1);
COMMENT ON CONSTRAINT saga_instances_wake ON saga_instances IS
    'Nothing out of sight: what is not at its end is due. One at a time, forward and back';
CREATE INDEX idx_saga_instances_live ON saga_instances (saga_id) WHERE live_claims > 0;
COMMENT ON INDEX idx_saga_instances_live IS 'Where the claims of a dead process, or of a silent node, are looked for';
ALTER TABLE saga_instances SET (fillfactor = 70);
ALTER TABLE saga_steps SET (fillfactor = 70);
"""

DOWN = """
ALTER TABLE saga_instances RESET (fillfactor);
ALTER TABLE saga_steps RESET (fillfactor);
DROP INDEX idx_saga_instances_live;
ALTER TABLE saga_instances DROP CONSTRAINT saga_instances_wake,
    ADD CONSTRAINT saga_instances_wake CHECK (num_nonnulls(wake_at, completed_at) = 1 AND live_claims >= 0);
COMMENT ON CONSTRAINT saga_instances_wake ON saga_instances IS 'Nothing out of sight: what is not at its end is due';
CREATE UNIQUE INDEX uq_saga_steps_undo ON saga_steps (saga_id) WHERE state = 'COMPENSATING' AND lease_until IS NOT NULL;
COMMENT ON INDEX uq_saga_steps_undo IS 'Compensations run one by one';
CREATE INDEX idx_saga_steps_claims ON saga_steps (claim_host) WHERE lease_until IS NOT NULL;
"""


def upgrade() -> None:
    op.execute(UP)


def downgrade() -> None:
    op.execute(DOWN)
