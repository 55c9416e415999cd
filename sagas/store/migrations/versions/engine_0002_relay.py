"""The relay's tables: who wants which events, and what is still to be delivered."""

from __future__ import annotations

from alembic import op

revision = "engine_0002"
down_revision = "engine_0001"
branch_labels = None
depends_on = None

UP = """
CREATE TABLE saga_subscriptions (
    subscriber text NOT NULL,
    event_type text NOT NULL,
    kind text NOT NULL,
    target text NOT NULL,
    max_attempts integer NOT NULL,
    PRIMARY KEY (subscriber, event_type),
    CONSTRAINT saga_subscriptions_kind CHECK (kind IN ('task', 'exchange'))
);
COMMENT ON TABLE saga_subscriptions IS 'What nobody wants is not relayed; event_type * is every type';
COMMENT ON COLUMN saga_subscriptions.target IS 'The queue of a task, or the name of an exchange';

CREATE TABLE saga_deliveries (
    delivery_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    event_id bigint NOT NULL REFERENCES saga_events (event_id) ON DELETE RESTRICT,
    subscriber text NOT NULL,
    kind text NOT NULL,
    target text NOT NULL,
    stream text NOT NULL,
    state text NOT NULL DEFAULT 'OPEN',
    attempt integer NOT NULL DEFAULT 0,
    attempt_id uuid,
    claimed_by text,
    claim_node uuid,
    claim_host text,
    claim_pid integer,
    claim_started double precision,
    lease_until timestamptz,
    look_at timestamptz,
    published_at timestamptz,
    republished integer NOT NULL DEFAULT 0,
    error jsonb,
    created_at timestamptz NOT NULL,
    closed_at timestamptz,
    CONSTRAINT uq_saga_deliveries_event UNIQUE (event_id, subscriber),
    CONSTRAINT saga_deliveries_kind CHECK (kind IN ('task', 'exchange')),
    CONSTRAINT saga_deliveries_state CHECK (state IN ('OPEN', 'DONE', 'PARKED', 'DROPPED')),
    CONSTRAINT saga_deliveries_look CHECK ((state = 'OPEN') = (look_at IS NOT NULL)),
    CONSTRAINT saga_deliveries_closed CHECK ((state = 'OPEN') = (closed_at IS NULL)),
    CONSTRAINT saga_deliveries_lease CHECK (lease_until IS NULL OR (state = 'OPEN' AND attempt_id IS NOT NULL))
);
CREATE INDEX idx_saga_deliveries_lane ON saga_deliveries (subscriber, stream, event_id) WHERE state = 'OPEN';
CREATE INDEX idx_saga_deliveries_due ON saga_deliveries (look_at) WHERE state = 'OPEN' AND kind = 'task';
CREATE INDEX idx_saga_deliveries_exchange ON saga_deliveries (subscriber, event_id)
    WHERE state = 'OPEN' AND kind = 'exchange';
CREATE INDEX idx_saga_deliveries_claims ON saga_deliveries (subscriber, lease_until) WHERE lease_until IS NOT NULL;
CREATE INDEX idx_saga_deliveries_parked ON saga_deliveries (delivery_id) WHERE state = 'PARKED';
COMMENT ON TABLE saga_deliveries IS 'One event for one subscriber, written in the event''s own transaction';
COMMENT ON INDEX idx_saga_deliveries_due IS 'What the relay reads: open deliveries by due time, never history';
COMMENT ON INDEX idx_saga_deliveries_lane IS 'A lane is one subscriber and one stream: its deliveries go one by one';
COMMENT ON CONSTRAINT saga_deliveries_look ON saga_deliveries IS 'Nothing out of sight: what is open is due';
COMMENT ON COLUMN saga_deliveries.published_at IS 'Since when its message is out; null while nobody has sent one';
"""

DOWN = """
DROP TABLE saga_deliveries;
DROP TABLE saga_subscriptions;
"""


def upgrade() -> None:
    op.execute(UP)


def downgrade() -> None:
    from sagas.store.upgrade import drop_functions

    drop_functions(op.get_bind())
    op.execute(DOWN)
