"""States as domains: a table's CHECKs are parsed anew by each statement that writes to it, a domain's are not.

One CHECK for each table is left; the other relations between columns are asked of the rows by the tests
(`tests/store/invariants.py`), after every transaction of theirs.
"""

from __future__ import annotations

from alembic import op

from sagas.store.upgrade import drop_functions

revision = "engine_0005"
down_revision = "engine_0004"
branch_labels = None
depends_on = None

UP = """
CREATE DOMAIN saga_state AS text CONSTRAINT saga_state_known CHECK (VALUE IN ('PENDING', 'IN_PROGRESS', 'COMPENSATING',
    'COMPLETED', 'COMPENSATED', 'CANCELLED', 'FAILED'));
CREATE DOMAIN saga_end AS text CONSTRAINT saga_end_known CHECK (VALUE IN ('COMPENSATED', 'CANCELLED'));
CREATE DOMAIN saga_direction AS text CONSTRAINT saga_direction_known CHECK (VALUE IN ('forward', 'undo'));
CREATE DOMAIN saga_step_state AS text CONSTRAINT saga_step_state_known CHECK (VALUE IN ('PENDING', 'IN_PROGRESS',
    'WAITING', 'COMPLETED', 'FAILED', 'UNKNOWN', 'COMPENSATING', 'COMPENSATED', 'SKIPPED'));
CREATE DOMAIN saga_step_phase AS text CONSTRAINT saga_step_phase_known CHECK (VALUE IN ('forward', 'verify', 'undo'));

ALTER TABLE saga_instances
    DROP CONSTRAINT saga_instances_state, DROP CONSTRAINT saga_instances_end_as,
    DROP CONSTRAINT saga_instances_failed_from, DROP CONSTRAINT saga_instances_live_claims,
    DROP CONSTRAINT saga_instances_wake, DROP CONSTRAINT saga_instances_end, DROP CONSTRAINT saga_instances_idle_at_end,
    ALTER COLUMN state TYPE saga_state, ALTER COLUMN end_as TYPE saga_end,
    ALTER COLUMN failed_from TYPE saga_direction,
    ADD CONSTRAINT saga_instances_wake CHECK (num_nonnulls(wake_at, completed_at) = 1 AND live_claims >= 0);
COMMENT ON CONSTRAINT saga_instances_wake ON saga_instances IS 'Nothing out of sight: what is not at its end is due';

DROP INDEX uq_saga_steps_undo;
ALTER TABLE saga_steps ALTER COLUMN state DROP DEFAULT, ALTER COLUMN phase DROP DEFAULT;
ALTER TABLE saga_steps
    DROP CONSTRAINT saga_steps_state, DROP CONSTRAINT saga_steps_phase, DROP CONSTRAINT saga_steps_lease,
    DROP CONSTRAINT saga_steps_claimed,
    ALTER COLUMN state TYPE saga_step_state, ALTER COLUMN phase TYPE saga_step_phase,
    ADD CONSTRAINT saga_steps_lease CHECK (lease_until IS NULL OR attempt_id IS NOT NULL);
ALTER TABLE saga_steps ALTER COLUMN state SET DEFAULT 'PENDING', ALTER COLUMN phase SET DEFAULT 'forward';
CREATE UNIQUE INDEX uq_saga_steps_undo ON saga_steps (saga_id) WHERE state = 'COMPENSATING' AND lease_until IS NOT NULL;
COMMENT ON INDEX uq_saga_steps_undo IS 'Compensations run one by one';
"""

DOWN = """
DROP INDEX uq_saga_steps_undo;
ALTER TABLE saga_steps ALTER COLUMN state DROP DEFAULT, ALTER COLUMN phase DROP DEFAULT;
ALTER TABLE saga_steps DROP CONSTRAINT saga_steps_lease,
    ALTER COLUMN state TYPE text, ALTER COLUMN phase TYPE text,
    ADD CONSTRAINT saga_steps_state CHECK (state IN ('PENDING', 'IN_PROGRESS', 'WAITING', 'COMPLETED', 'FAILED',
        'UNKNOWN', 'COMPENSATING', 'COMPENSATED', 'SKIPPED')),
    ADD CONSTRAINT saga_steps_phase CHECK (phase IN ('forward', 'verify', 'undo')),
    ADD CONSTRAINT saga_steps_lease CHECK (lease_until IS NULL OR
        (attempt_id IS NOT NULL AND state IN ('IN_PROGRESS', 'UNKNOWN', 'COMPENSATING'))),
    ADD CONSTRAINT saga_steps_claimed CHECK (state <> 'IN_PROGRESS' OR lease_until IS NOT NULL);
COMMENT ON CONSTRAINT saga_steps_claimed ON saga_steps IS 'A step in progress is a step with a live claim';
ALTER TABLE saga_steps ALTER COLUMN state SET DEFAULT 'PENDING', ALTER COLUMN phase SET DEFAULT 'forward';
CREATE UNIQUE INDEX uq_saga_steps_undo ON saga_steps (saga_id) WHERE state = 'COMPENSATING' AND lease_until IS NOT NULL;
COMMENT ON INDEX uq_saga_steps_undo IS 'Compensations run one by one';

ALTER TABLE saga_instances DROP CONSTRAINT saga_instances_wake,
    ALTER COLUMN state TYPE text, ALTER COLUMN end_as TYPE text, ALTER COLUMN failed_from TYPE text,
    ADD CONSTRAINT saga_instances_state CHECK (state IN ('PENDING', 'IN_PROGRESS', 'COMPENSATING', 'COMPLETED',
        'COMPENSATED', 'CANCELLED', 'FAILED')),
    ADD CONSTRAINT saga_instances_end_as CHECK (end_as IN ('COMPENSATED', 'CANCELLED')),
    ADD CONSTRAINT saga_instances_failed_from CHECK (failed_from IN ('forward', 'undo')),
    ADD CONSTRAINT saga_instances_live_claims CHECK (live_claims >= 0),
    ADD CONSTRAINT saga_instances_wake CHECK
        (state IN ('COMPLETED', 'COMPENSATED', 'CANCELLED', 'FAILED') OR wake_at IS NOT NULL),
    ADD CONSTRAINT saga_instances_end CHECK
        ((state IN ('COMPLETED', 'COMPENSATED', 'CANCELLED', 'FAILED')) = (completed_at IS NOT NULL)),
    ADD CONSTRAINT saga_instances_idle_at_end CHECK
        (state NOT IN ('COMPLETED', 'COMPENSATED', 'CANCELLED', 'FAILED') OR live_claims = 0);
COMMENT ON CONSTRAINT saga_instances_wake ON saga_instances IS 'Nothing out of sight: what is not at its end is due';
COMMENT ON CONSTRAINT saga_instances_idle_at_end ON saga_instances IS 'No saga ends while a claim is live';

DROP DOMAIN saga_state, saga_end, saga_direction, saga_step_state, saga_step_phase;
"""


def upgrade() -> None:
    # Whoever looks at these tables through a view of their own must take it away first; PostgreSQL says which.
    op.execute(UP)


def downgrade() -> None:
    drop_functions(op.get_bind())
    op.execute(DOWN)
