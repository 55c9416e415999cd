"""The engine's tables for SQLAlchemy Core. The migrations are the authority; a test proves that the two are equal."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Double,
    ForeignKey,
    Identity,
    Index,
    Integer,
    MetaData,
    Table,
    Text,
    UniqueConstraint,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY, DOMAIN, JSONB, TIMESTAMP, UUID
from sqlalchemy.types import TypeEngine

from sagas.types import SagaState, StepState

metadata = MetaData()
_TIME = TIMESTAMP(timezone=True)
_ZERO = text("0")
_FALSE = text("false")


# Domains, not CHECKs of the tables: PostgreSQL parses a table's CHECKs anew for each statement that writes to it, a
# domain's once for each connection (decision 0010 has the figures).
def _domain(name: str, values: list[str]) -> TypeEngine[str]:
    """Text to whoever compares it, a domain in the database."""
    check = f"VALUE IN ({', '.join(repr(str(value)) for value in values)})"
    domain = DOMAIN(name, Text, constraint_name=f"{name}_known", check=check, metadata=metadata)
    return Text().with_variant(domain, "postgresql")


_SAGA_STATE = _domain("saga_state", list(SagaState))
_STEP_STATE = _domain("saga_step_state", list(StepState))
_END = _domain("saga_end", ["COMPENSATED", "CANCELLED"])
_DIRECTION = _domain("saga_direction", ["forward", "undo"])
_PHASE = _domain("saga_step_phase", ["forward", "verify", "undo"])

saga_definitions = Table(
    "saga_definitions",
    metadata,
    Column("name", Text, primary_key=True),
    Column("version", Integer, primary_key=True),
    Column("steps", JSONB, nullable=False),
    Column("payload_schema", JSONB),
    Column("digest", Text, nullable=False),
    Column("timeout_s", Double),
    Column("max_payload", Integer, nullable=False),
)

saga_instances = Table(
    "saga_instances",
    metadata,
    Column("saga_id", UUID(as_uuid=True), primary_key=True),
    Column("saga_type", Text, nullable=False),
    Column("version", Integer, nullable=False),
    Column("state", _SAGA_STATE, nullable=False),
    Column("correlation_id", Text),
    Column("actor", Text),
    Column("idempotency_key", Text),
    Column("context", JSONB, nullable=False),
    Column("parent_saga_id", UUID(as_uuid=True), ForeignKey("saga_instances.saga_id", ondelete="RESTRICT")),
    Column("stages", Integer, nullable=False),
    Column("current_step", Integer, nullable=False, server_default=_ZERO),
    Column("live_claims", Integer, nullable=False, server_default=_ZERO),
    Column("completions", Integer, nullable=False, server_default=_ZERO),
    Column("pivot_open", Boolean, nullable=False, server_default=_FALSE),
    Column("pivot_passed", Boolean, nullable=False, server_default=_FALSE),
    Column("wake_at", _TIME),
    Column("quiet_at", _TIME),
    Column("deadline", _TIME),
    Column("paused_at", _TIME),
    Column("pause_reason", Text),
    Column("shadow", Boolean, nullable=False, server_default=_FALSE),
    Column("end_as", _END),
    Column("failed_from", _DIRECTION),
    Column("cancel_requested", JSONB),
    Column("outstanding", JSONB, nullable=False, server_default=text("'[]'")),
    Column("started_at", _TIME, nullable=False),
    Column("completed_at", _TIME),
    Column("error", JSONB),
    Column("brought_by", UUID(as_uuid=True)),
    # Whether there may be a claim: a claim says so, and whoever looks and finds none (`saga_rewake`).
    Column("claimed", Boolean, nullable=False, server_default=_FALSE),
    # Ended, or due at some time: never neither (P14).
    # And one at a time, forward and back (P5).
    CheckConstraint(
        "num_nonnulls(wake_at, completed_at) = 1 AND live_claims BETWEEN 0 AND 1", name="saga_instances_wake"
    ),
    Index("idx_saga_instances_type", "saga_type"),
    Index("idx_saga_instances_state", "state", "saga_id"),
    Index("idx_saga_instances_correlation", "correlation_id"),
    Index("idx_saga_instances_parent", "parent_saga_id", postgresql_where=text("parent_saga_id IS NOT NULL")),
    Index("idx_saga_instances_brought", "brought_by", postgresql_where=text("brought_by IS NOT NULL")),
    Index("idx_saga_instances_live", "saga_id", postgresql_where=text("claimed AND wake_at IS NOT NULL")),
    Index("idx_saga_instances_wake", "wake_at", postgresql_where=text("wake_at IS NOT NULL")),
    Index(
        "uq_saga_instances_key",
        "saga_type",
        "idempotency_key",
        unique=True,
        postgresql_where=text("idempotency_key IS NOT NULL"),
    ),
)

saga_steps = Table(
    "saga_steps",
    metadata,
    Column("step_id", UUID(as_uuid=True), primary_key=True, server_default=text("gen_random_uuid()")),
    Column("saga_id", UUID(as_uuid=True), ForeignKey("saga_instances.saga_id", ondelete="RESTRICT"), nullable=False),
    Column("step_name", Text, nullable=False),
    Column("step_order", Integer, nullable=False),
    Column("stage", Integer, nullable=False),
    Column("state", _STEP_STATE, nullable=False, server_default=text("'PENDING'")),
    Column("phase", _PHASE, nullable=False, server_default=text("'forward'")),
    Column("idempotent", Boolean, nullable=False, server_default=text("true")),
    Column("transactional", Boolean, nullable=False, server_default=_FALSE),
    Column("pivot", Boolean, nullable=False, server_default=_FALSE),
    Column("compensate_on_failure", Boolean, nullable=False, server_default=_FALSE),
    Column("has_compensation", Boolean, nullable=False, server_default=_FALSE),
    Column("has_verify", Boolean, nullable=False, server_default=_FALSE),
    Column("timeout_s", Double, nullable=False, server_default=text("300")),
    Column("undo_timeout_s", Double, nullable=False, server_default=text("300")),
    Column("max_attempts", Integer, nullable=False, server_default=text("3")),
    Column("undo_max_attempts", Integer, nullable=False, server_default=text("10")),
    Column("queue", Text, nullable=False, server_default=text("'steps'")),
    Column("undo_queue", Text, nullable=False, server_default=text("'compensations'")),
    Column("priority", Integer),
    Column("attempt", Integer, nullable=False, server_default=_ZERO),
    Column("undo_attempt", Integer, nullable=False, server_default=_ZERO),
    Column("verify_attempt", Integer, nullable=False, server_default=_ZERO),
    Column("attempt_id", UUID(as_uuid=True)),
    Column("last_attempt_id", UUID(as_uuid=True)),
    Column("claimed_by", Text),
    Column("claim_node", UUID(as_uuid=True)),
    Column("claim_host", Text),
    Column("claim_pid", Integer),
    Column("claim_started", Double),
    Column("lease_until", _TIME),
    Column("not_before", _TIME),
    Column("look_at", _TIME),
    Column("published_at", _TIME),
    Column("republished", Integer, nullable=False, server_default=_ZERO),
    Column("waiting_since", _TIME),
    Column("effect_possible", Boolean, nullable=False, server_default=_FALSE),
    Column("late_effect", Boolean, nullable=False, server_default=_FALSE),
    Column("undo_rank", Integer),
    Column("input_data", JSONB),
    Column("output_data", JSONB),
    Column("compensation_data", JSONB),
    Column("error", JSONB),
    Column("started_at", _TIME),
    Column("completed_at", _TIME),
    Column("child", Text),
    Column("child_saga_id", UUID(as_uuid=True)),
    UniqueConstraint("saga_id", "step_order", name="uq_saga_steps_order"),
    CheckConstraint("lease_until IS NULL OR attempt_id IS NOT NULL", name="saga_steps_lease"),
    Index("uq_saga_steps_name", "saga_id", "step_name", unique=True),
)

saga_events = Table(
    "saga_events",
    metadata,
    Column("event_id", BigInteger, Identity(always=True), primary_key=True),
    Column("stream", Text, nullable=False),
    Column("saga_id", UUID(as_uuid=True)),
    Column("correlation_id", Text),
    Column("event_type", Text, nullable=False),
    Column("step_name", Text),
    Column("actor", Text),
    Column("payload", JSONB, nullable=False, server_default=text("'{}'")),
    Column("occurred_at", _TIME, nullable=False),
    Column("published_at", _TIME),
    Index("idx_saga_events_stream", "stream", "event_id"),
    Index("idx_saga_events_correlation", "correlation_id", postgresql_where=text("correlation_id IS NOT NULL")),
)

celery_nodes = Table(
    "celery_nodes",
    metadata,
    Column("incarnation", UUID(as_uuid=True), primary_key=True),
    Column("node", Text, nullable=False),
    Column("host", Text),
    Column("pid", Integer),
    Column("queues", ARRAY(Text), nullable=False),
    Column("started_at", _TIME, nullable=False),
    Column("last_seen", _TIME, nullable=False),
)

saga_backlogs = Table(
    "saga_backlogs",
    metadata,
    Column("queue", Text, primary_key=True),
    Column("waiting", Integer, nullable=False),
    Column("needed", Integer, nullable=False),
    Column("depth", Integer, nullable=False),
    Column("counted_at", _TIME, nullable=False),
    CheckConstraint("waiting > 0", name="saga_backlogs_some"),
)

engine_state = Table(
    "engine_state",
    metadata,
    Column(
        "one", Boolean, CheckConstraint("one", name="engine_state_one"), primary_key=True, server_default=text("true")
    ),
    Column("reconciled_at", _TIME, nullable=False),
    Column("trust_from", _TIME, nullable=False),
)

engine_epoch = Table(
    "engine_epoch",
    metadata,
    Column(
        "one", Boolean, CheckConstraint("one", name="engine_epoch_one"), primary_key=True, server_default=text("true")
    ),
    Column("since", _TIME, nullable=False),
    prefixes=["UNLOGGED"],
)
