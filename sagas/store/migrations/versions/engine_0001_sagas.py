"""The engine's tables: definitions, instances, steps, events, and the epoch of asynchronous claims."""

from __future__ import annotations

from alembic import op

revision = "engine_0001"
down_revision = None
branch_labels = ("engine",)
depends_on = None

UP = """
CREATE TABLE saga_definitions (
    name text NOT NULL,
    version integer NOT NULL,
    steps jsonb NOT NULL,
    payload_schema jsonb,
    digest text NOT NULL,
    timeout_s double precision,
    max_payload integer NOT NULL,
    PRIMARY KEY (name, version)
);

CREATE TABLE saga_instances (
    saga_id uuid PRIMARY KEY,
    saga_type text NOT NULL,
    version integer NOT NULL,
    state text NOT NULL,
    correlation_id text,
    actor text,
    idempotency_key text,
    context jsonb NOT NULL,
    parent_saga_id uuid REFERENCES saga_instances (saga_id) ON DELETE RESTRICT,
    stages integer NOT NULL,
    current_step integer NOT NULL DEFAULT 0,
    open_in_stage integer NOT NULL DEFAULT 1,
    live_claims integer NOT NULL DEFAULT 0,
    completions integer NOT NULL DEFAULT 0,
    pivot_open boolean NOT NULL DEFAULT false,
    pivot_passed boolean NOT NULL DEFAULT false,
    wake_at timestamptz,
    quiet_at timestamptz,
    deadline timestamptz,
    paused_at timestamptz,
    pause_reason text,
    shadow boolean NOT NULL DEFAULT false,
    end_as text,
    failed_from text,
    cancel_requested jsonb,
    outstanding jsonb NOT NULL DEFAULT '[]',
    started_at timestamptz NOT NULL,
    completed_at timestamptz,
    error jsonb,
    CONSTRAINT saga_instances_state CHECK (state IN ('PENDING', 'IN_PROGRESS', 'COMPENSATING', 'COMPLETED',
        'COMPENSATED', 'CANCELLED', 'FAILED')),
    CONSTRAINT saga_instances_end_as CHECK (end_as IN ('COMPENSATED', 'CANCELLED')),
    CONSTRAINT saga_instances_failed_from CHECK (failed_from IN ('forward', 'undo')),
    CONSTRAINT saga_instances_live_claims CHECK (live_claims >= 0),
    CONSTRAINT saga_instances_wake CHECK
        (state IN ('COMPLETED', 'COMPENSATED', 'CANCELLED', 'FAILED') OR wake_at IS NOT NULL),
    CONSTRAINT saga_instances_end CHECK
        ((state IN ('COMPLETED', 'COMPENSATED', 'CANCELLED', 'FAILED')) = (completed_at IS NOT NULL)),
    CONSTRAINT saga_instances_idle_at_end CHECK
        (state NOT IN ('COMPLETED', 'COMPENSATED', 'CANCELLED', 'FAILED') OR live_claims = 0)
);
CREATE INDEX idx_saga_instances_type ON saga_instances (saga_type);
CREATE INDEX idx_saga_instances_state ON saga_instances (state);
CREATE INDEX idx_saga_instances_correlation ON saga_instances (correlation_id);
CREATE INDEX idx_saga_instances_parent ON saga_instances (parent_saga_id) WHERE parent_saga_id IS NOT NULL;
CREATE INDEX idx_saga_instances_wake ON saga_instances (wake_at)
    WHERE state IN ('PENDING', 'IN_PROGRESS', 'COMPENSATING');
CREATE UNIQUE INDEX uq_saga_instances_key ON saga_instances (saga_type, idempotency_key)
    WHERE idempotency_key IS NOT NULL;
COMMENT ON INDEX uq_saga_instances_key IS 'One key, one saga: any version, until purged';
COMMENT ON INDEX idx_saga_instances_wake IS 'What reconcile reads: active sagas by due time, never history';
COMMENT ON CONSTRAINT saga_instances_wake ON saga_instances IS 'Nothing out of sight: what is not at its end is due';
COMMENT ON CONSTRAINT saga_instances_idle_at_end ON saga_instances IS 'No saga ends while a claim is live';

CREATE TABLE saga_steps (
    step_id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    saga_id uuid NOT NULL REFERENCES saga_instances (saga_id) ON DELETE RESTRICT,
    step_name text NOT NULL,
    step_order integer NOT NULL,
    stage integer NOT NULL,
    state text NOT NULL DEFAULT 'PENDING',
    phase text NOT NULL DEFAULT 'forward',
    idempotent boolean NOT NULL DEFAULT true,
    transactional boolean NOT NULL DEFAULT false,
    pivot boolean NOT NULL DEFAULT false,
    compensate_on_failure boolean NOT NULL DEFAULT false,
    has_compensation boolean NOT NULL DEFAULT false,
    has_verify boolean NOT NULL DEFAULT false,
    timeout_s double precision NOT NULL DEFAULT 300,
    undo_timeout_s double precision NOT NULL DEFAULT 300,
    max_attempts integer NOT NULL DEFAULT 3,
    undo_max_attempts integer NOT NULL DEFAULT 10,
    queue text NOT NULL DEFAULT 'steps',
    undo_queue text NOT NULL DEFAULT 'compensations',
    priority integer,
    attempt integer NOT NULL DEFAULT 0,
    undo_attempt integer NOT NULL DEFAULT 0,
    verify_attempt integer NOT NULL DEFAULT 0,
    attempt_id uuid,
    last_attempt_id uuid,
    claimed_by text,
    claim_node uuid,
    claim_host text,
    claim_pid integer,
    claim_started double precision,
    lease_until timestamptz,
    not_before timestamptz,
    look_at timestamptz,
    published_at timestamptz,
    republished integer NOT NULL DEFAULT 0,
    waiting_since timestamptz,
    effect_possible boolean NOT NULL DEFAULT false,
    late_effect boolean NOT NULL DEFAULT false,
    undo_rank integer,
    input_data jsonb,
    output_data jsonb,
    compensation_data jsonb,
    error jsonb,
    started_at timestamptz,
    completed_at timestamptz,
    CONSTRAINT uq_saga_steps_order UNIQUE (saga_id, step_order),
    CONSTRAINT saga_steps_state CHECK (state IN ('PENDING', 'IN_PROGRESS', 'WAITING', 'COMPLETED', 'FAILED',
        'UNKNOWN', 'COMPENSATING', 'COMPENSATED', 'SKIPPED')),
    CONSTRAINT saga_steps_phase CHECK (phase IN ('forward', 'verify', 'undo')),
    CONSTRAINT saga_steps_lease CHECK (lease_until IS NULL OR
        (attempt_id IS NOT NULL AND state IN ('IN_PROGRESS', 'UNKNOWN', 'COMPENSATING'))),
    CONSTRAINT saga_steps_claimed CHECK (state <> 'IN_PROGRESS' OR lease_until IS NOT NULL)
);
CREATE UNIQUE INDEX uq_saga_steps_name ON saga_steps (saga_id, step_name);
CREATE UNIQUE INDEX uq_saga_steps_undo ON saga_steps (saga_id) WHERE state = 'COMPENSATING' AND lease_until IS NOT NULL;
CREATE INDEX idx_saga_steps_claims ON saga_steps (claim_host) WHERE lease_until IS NOT NULL;
COMMENT ON INDEX uq_saga_steps_undo IS 'Compensations run one by one';
COMMENT ON CONSTRAINT saga_steps_claimed ON saga_steps IS 'A step in progress is a step with a live claim';
COMMENT ON COLUMN saga_steps.undo_rank IS
    'Not null while an effect may exist that a compensation would undo; the highest is undone first';
COMMENT ON COLUMN saga_steps.look_at IS 'When reconcile looks for this unclaimed step next; null unless it is current';

CREATE TABLE saga_events (
    event_id bigint GENERATED ALWAYS AS IDENTITY (CACHE 1) PRIMARY KEY,
    stream text NOT NULL,
    saga_id uuid,
    correlation_id text,
    event_type text NOT NULL,
    step_name text,
    actor text,
    payload jsonb NOT NULL DEFAULT '{}',
    occurred_at timestamptz NOT NULL,
    published_at timestamptz
);
CREATE INDEX idx_saga_events_stream ON saga_events (stream, event_id);
CREATE INDEX idx_saga_events_correlation ON saga_events (correlation_id) WHERE correlation_id IS NOT NULL;

CREATE TABLE celery_nodes (
    incarnation uuid PRIMARY KEY,
    node text NOT NULL,
    host text,
    pid integer,
    queues text[] NOT NULL,
    started_at timestamptz NOT NULL,
    last_seen timestamptz NOT NULL
);
COMMENT ON TABLE celery_nodes IS 'Main processes of Celery workers; one that starts again is another row';

CREATE TABLE engine_state (
    one boolean PRIMARY KEY DEFAULT true,
    reconciled_at timestamptz NOT NULL,
    trust_from timestamptz NOT NULL,
    CONSTRAINT engine_state_one CHECK (one)
);
COMMENT ON COLUMN engine_state.trust_from IS
    'Silence counts from here on: while reconcile itself did not see the database, nobody could be heard';
INSERT INTO engine_state (reconciled_at, trust_from) VALUES (clock_timestamp(), clock_timestamp());

CREATE UNLOGGED TABLE engine_epoch (
    one boolean PRIMARY KEY DEFAULT true,
    since timestamptz NOT NULL,
    CONSTRAINT engine_epoch_one CHECK (one)
);
COMMENT ON TABLE engine_epoch IS 'Empty after a crash of PostgreSQL: claims that did not wait for the disk may be gone';
INSERT INTO engine_epoch (since) VALUES (clock_timestamp());
"""

DOWN = """
DROP TABLE engine_epoch;
DROP TABLE engine_state;
DROP TABLE celery_nodes;
DROP TABLE saga_events;
DROP TABLE saga_steps;
DROP TABLE saga_instances;
DROP TABLE saga_definitions;
"""


def upgrade() -> None:
    op.execute(UP)


def downgrade() -> None:
    from sagas.store.upgrade import drop_functions

    drop_functions(op.get_bind())
    op.execute(DOWN)
